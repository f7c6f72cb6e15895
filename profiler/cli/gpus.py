"""`peakvram gpus`: the cards of the catalogue."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.hardware.catalogue import Gpu, find_gpu, load_catalogue
from profiler.report.terminal.catalogue import gpu_table, gpus_table
from profiler.report.terminal.output import data_output, print_json_value

GpuId = Annotated[str | None, typer.Argument(metavar="GPU", help="One card: every figure with its source.")]


def gpus(*, gpu: GpuId = None, json: o.Json = False) -> int:
    """List the cards that a virtual GPU can be.

    With the id of one, show every figure of it with its source.

    \b
    peakvram gpus
    peakvram gpus rtx-4090
    peakvram gpus --json
    """  # noqa: D301 - \b keeps the examples' lines apart
    if gpu is None:
        cards = list(load_catalogue().values())
        value: object = [_as_json(card) for card in cards]
        table = gpus_table(cards)
    else:
        card = find_gpu(gpu)
        value, table = _as_json(card), gpu_table(card)
    if json:
        print_json_value(value)
    else:
        with data_output() as console:
            console.print(table)
    return 0


def _as_json(gpu: Gpu) -> dict[str, object]:
    major, minor = gpu.compute_capability
    return {**asdict(gpu), "compute_capability": f"{major}.{minor}"}
