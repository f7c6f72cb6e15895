"""`peakvram replay`: a recorded trace under other allocator settings, or on another card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.cli.job import read_gpu_memory
from profiler.report.base.alternatives import alternatives_tree
from profiler.report.terminal.alternatives import show_alternatives
from profiler.report.terminal.output import data_output, print_json_value

if TYPE_CHECKING:
    from profiler.allocator.alternatives import Capacity

Snapshot = Annotated[
    Path,
    typer.Argument(
        metavar="SNAPSHOT",
        help="A memory snapshot of torch's (a pickle), or a history or trace of peakvram's (.jsonl).",
        show_default=False,
    ),
]
AllocConf = Annotated[
    list[str] | None,
    typer.Option(
        "--alloc-conf",
        metavar="CONF",
        help="Settings to try, as PYTORCH_ALLOC_CONF has them. Repeatable (default: common ones)",
    ),
]
GpuId = Annotated[
    str | None, typer.Option("--gpu", metavar="ID", help="A card of the catalogue: whether it would fit.")
]
GpuMemory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="What a card has free for tensors, such as 22GiB.")
]
TorchVersion = Annotated[
    str | None,
    typer.Option("--torch", metavar="VERSION", help="Whose rules hold (default: the newest known)"),
]
DeviceIndex = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="The device of a snapshot (default: where most happened)"),
]


def replay(  # noqa: PLR0913 - one parameter a flag
    *,
    snapshot: Snapshot,
    alloc_conf: AllocConf = None,
    gpu: GpuId = None,
    gpu_memory: GpuMemory = None,
    torch: TorchVersion = None,
    device: DeviceIndex = None,
    json: o.Json = False,
) -> int:
    """Replay a recorded trace of the CUDA allocator under other settings, or on another card.

    Says which setting would have reserved less, whether it would have fitted, and where reserved memory lay
    unused. Nothing runs, and nothing in the file is executed.

    \b
    peakvram replay snapshot.pickle
    peakvram replay snapshot.pickle --gpu rtx-4090
    peakvram replay snapshot.pickle --alloc-conf expandable_segments:True --gpu-memory 22GiB

    Exit codes: 0 done, 2 usage, or no trace in the file.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.allocator.alternatives import COMMON_CONFS, find_alternatives  # noqa: PLC0415 - not for --help
    from profiler.allocator.rules import NEWEST, rules_of  # noqa: PLC0415 - not for --help
    from profiler.allocator.snapshots import read_recorded  # noqa: PLC0415 - not for --help

    card = _find_card(gpu, gpu_memory)
    rules = rules_of(torch) if torch else NEWEST
    file = read_recorded(snapshot, device=device)
    found = find_alternatives(file, alloc_conf or COMMON_CONFS, rules=rules, card=card)
    if json:
        print_json_value(alternatives_tree(file, found, card=card))
    else:
        with data_output() as console:
            show_alternatives(console, file, found, card=card)
    return 0


def _find_card(gpu: str | None, gpu_memory: str | None) -> Capacity | None:
    """The card that is asked about: one of the catalogue, or so much memory."""
    from profiler.allocator.alternatives import Capacity  # noqa: PLC0415 - not for --help
    from profiler.hardware.catalogue import find_gpu  # noqa: PLC0415 - not for --help

    free_bytes = read_gpu_memory(gpu_memory)
    if gpu is None:
        return (
            None if free_bytes is None else Capacity(name="", total_bytes=free_bytes, free_bytes=free_bytes)
        )
    found = find_gpu(gpu)
    room_bytes = found.total_bytes - found.context_bytes
    return Capacity(
        name=found.name,
        total_bytes=found.total_bytes,
        free_bytes=room_bytes if free_bytes is None else free_bytes,
    )
