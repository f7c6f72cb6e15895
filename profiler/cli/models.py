"""`peakvram models`: the model presets."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.jobs.models import find_presets
from profiler.report.base.text import show_blocks
from profiler.report.terminal.catalogue import model_blocks, models_table
from profiler.report.terminal.output import data_output, print_json_value

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from profiler.jobs.presets import Preset

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help="One model, by its id or a Hub id; or part of an id, a Hub id or a family."
    ),
]


def models(*, model: Model = None, json: o.Json = False) -> int:
    """List the models that need no download.

    With the id of one, show its shapes, their source and who estimates it; with a part of one, list those
    that have it. Any Hub id or local directory works as well.

    \b
    peakvram models
    peakvram models qwen
    peakvram models llama-3.1-8b
    peakvram models --json
    """  # noqa: D301 - \b keeps the examples' lines apart
    found = find_presets(model or "")
    if isinstance(found, tuple):
        value: object = [_as_json(preset) for preset in found]
        blocks: tuple[Group | list[Text], ...] = (models_table(found),)
    else:
        from profiler.formula.speaking import formulas_of  # noqa: PLC0415 - a list needs no formulas

        formulas = formulas_of(found.id)
        value, blocks = {**_as_json(found), "formulas": formulas}, model_blocks(found, formulas)
    if json:
        print_json_value(value)
    else:
        with data_output() as console:
            show_blocks(console, *blocks)
    return 0


def _as_json(preset: Preset) -> dict[str, object]:
    return {**asdict(preset), "config_path": str(preset.config_path)}
