"""`peakvram models`: the model presets."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.report.terminal.output import data_output, print_json_value

if TYPE_CHECKING:
    from profiler.jobs.presets import Preset


def models(*, json: o.Json = False) -> int:
    """List the models that need no download.

    Any Hub id or local directory works as well.

    \b
    peakvram models
    peakvram models --json
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.jobs.presets import list_presets  # noqa: PLC0415
    from profiler.report.terminal.catalogue import models_table  # noqa: PLC0415 - not for --help

    presets = list_presets()
    if json:
        print_json_value([_as_json(preset) for preset in presets])
    else:
        with data_output() as console:
            console.print(models_table(presets))
    return 0


def _as_json(preset: Preset) -> dict[str, object]:
    return {**asdict(preset), "config_path": str(preset.config_path)}
