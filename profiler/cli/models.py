"""`peakvram models`: the model presets."""

from __future__ import annotations

from dataclasses import asdict

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.jobs.presets import list_presets
from profiler.report.terminal.catalogue import models_table
from profiler.report.terminal.output import data_output, print_json_value


def models(*, json: o.Json = False) -> int:
    """List the models that need no download.

    Any Hub id or local directory works as well.

    \b
    peakvram models
    peakvram models --json
    """  # noqa: D301 - \b keeps the examples' lines apart
    presets = list_presets()
    if json:
        print_json_value([{**asdict(preset), "config_path": str(preset.config_path)} for preset in presets])
    else:
        with data_output() as console:
            console.print(models_table(presets))
    return 0
