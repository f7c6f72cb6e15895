"""`peakvram exec`: any training script, unmodified, on a real card or a virtual one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli import options as o
from profiler.cli.job import Gpu, GpuMemory, read_gpu_memory
from profiler.cli.run import read_timeout
from profiler.errors import ConfigError
from profiler.report.terminal.output import message_console, notice, print_json
from profiler.virtual.routing import Routing as RoutingKind

Command = Annotated[
    list[str],
    typer.Argument(
        metavar="-- COMMAND...", help="The command, as in a terminal, after `--`.", show_default=False
    ),
]
StopAfter = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="End the script after N optimizer steps, with exit code 0."),
]
Routing = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        help="Where a virtual card's routers send tokens: even, or worst, all to the same experts",
    ),
]
OutFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write the result to this file, as JSON.")
]
JsonLine = Annotated[bool, o.switch("--json", "Print the result as one line of JSON, the last of stdout.")]


def exec(  # noqa: PLR0913 - one parameter a flag
    *,
    command: Command,
    gpu: Gpu = None,
    gpu_memory: GpuMemory = None,
    stop_after: StopAfter = None,
    routing: Routing = "even",
    timeout: o.Timeout = None,
    allow_busy: o.AllowBusy = False,
    out: OutFile = None,
    json: JsonLine = False,
) -> int:
    """Run any training script, unmodified, and show what it takes of the card.

    The script's output passes through; what peakvram has to say follows on stderr.

    \b
    peakvram exec --gpu a100-80gb -- python train.py --epochs 1
    peakvram exec --gpu rtx-4090 --stop-after 3 -- accelerate launch train.py
    peakvram exec --gpu real --out result.json -- python train.py

    Exit codes: the command's own (128 and the number of a signal that killed it); 0 where --stop-after ended
    it, 2 usage, 3 it cannot be followed here, 124 time limit.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.files import check_directory, write_file  # noqa: PLC0415 - not for --help
    from profiler.follow.command import FollowOptions, follow_command  # noqa: PLC0415 - not for --help
    from profiler.report.terminal.exec import show_command  # noqa: PLC0415 - not for --help

    options = FollowOptions(
        gpu=gpu or "auto",
        gpu_memory_bytes=read_gpu_memory(gpu_memory),
        stop_after=stop_after,
        timeout_s=read_timeout(timeout),
        routing=_read_routing(routing),
        allow_busy=allow_busy,
    )
    if out is not None:
        check_directory(out.parent)
        if out.is_dir():
            raise ConfigError(f"--out: {out} is a directory", hint="name a file, such as result.json")
    result = follow_command(command, options)
    if out is not None:
        write_file(out, result.model_dump_json(indent=2) + "\n")
    if json:
        print_json(result.model_dump_json())
        if out is not None:
            notice(f"Wrote {out}")
    else:
        show_command(message_console(), result, path=out)
    return result.exit_code


def _read_routing(text: str) -> RoutingKind:
    try:
        return RoutingKind(text)
    except ValueError:
        raise ConfigError(f"--routing: no way to route is called {text!r}", hint="even or worst") from None
