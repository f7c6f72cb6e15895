from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from profiler.follow.seen import CommandEnd
from profiler.report.terminal.exec import command_verdict, show_command
from profiler.units import GIB, MIB
from profiler.virtual.routing import Routing
from tests.unit.follow.reports import a_mark, a_process, a_result

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from profiler.follow.result import CommandResult

SITE = "transformers/generation/utils.py:395 (_local_scalar_dense), from train.py:12 x2"


def shown(result: CommandResult) -> str:
    console = Console(file=StringIO(), width=120, highlight=False)
    show_command(console, result, path=Path("result.json"))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_command_that_fits(snapshot: SnapshotAssertion) -> None:
    assert shown(a_result(a_process())) == snapshot


def test_a_command_with_doubts(snapshot: SnapshotAssertion) -> None:
    reads = {
        "decisions": 2,
        "decision_sites": (SITE,),
        "others": 24,
        "other_sites": tuple(f"train.py:{line} (_local_scalar_dense) x6" for line in (7, 8, 9, 10)),
        "assumed": 4,
        "assumed_sites": ("models/mixtral/modeling_mixtral.py:107 x4",),
        "inexact": ("aten.unique_dim.default x1",),
    }
    child = a_process(pid=4712, command=("python", "worker.py"), reserved_peak_bytes=GIB)
    result = a_result(
        a_process(reads=reads, num_alloc_retries=3),
        child,
        routing=Routing.WORST,
        notes=("cuDNN ran",),
        found={"managed_bytes": 40 * MIB, "unknown_functions": ("cudaStreamBeginCapture",)},
    )
    assert shown(result) == snapshot


def test_a_command_that_ran_out_of_memory_is_told_where() -> None:
    ending = {"kind": "exit", "error": "OutOfMemoryError: CUDA out of memory.", "is_out_of_memory": True}
    process = a_process(
        ending=ending, out_of_memory={"requested_bytes": 9 * GIB, "line": "train.py:12"}, num_ooms=1
    )
    result = a_result(process, ended=CommandEnd(pid=4711, exit_code=1))
    assert command_verdict(result).endswith(
        "does not fit, out of memory at train.py:12, asking for 9.00 GiB more"
    )
    assert "give the virtual card more: --gpu-memory 2TiB" in shown(result)


def test_each_end_is_named() -> None:
    process = a_process()
    last = "; the last that was seen of it is the end of: optimizer step, step 1"
    endings = {
        "the command failed with exit code 2" + last: a_result(
            process, ended=CommandEnd(pid=4711, exit_code=2)
        ),
        "the command was ended by SIGKILL" + last: a_result(
            process, ended=CommandEnd(pid=4711, exit_code=137, signal=9)
        ),
        "the command failed with exit code 1, before its first forward pass": a_result(
            a_process(marks=(a_mark("rest", 0, peak=GIB),)), ended=CommandEnd(pid=4711, exit_code=1)
        ),
        "stopped at the time limit" + last: a_result(
            process, ended=CommandEnd(pid=4711, exit_code=124, timeout_s=1)
        ),
        "fits, 11.52 GiB free, stopped after 2 optimizer steps as asked": a_result(
            a_process(has_stopped=True), stop_after=2
        ),
        "it ran to its end": a_result(process, found={"device_used_bytes": None}),
    }
    for ending, result in endings.items():
        assert command_verdict(result).endswith(": " + ending)
    assert command_verdict(a_result()) == (
        "the command never used CUDA, so there is nothing to tell of its memory"
    )


def test_what_the_script_says_is_shown_as_it_is() -> None:
    process = a_process(ending={"kind": "exit", "error": "ValueError: [bold]\x1b[31m"})
    assert "ValueError: [bold]\\x1b[31m" in shown(a_result(process, ended=CommandEnd(pid=4711, exit_code=1)))


def test_a_command_that_met_a_full_card_and_went_on_is_not_headed_fits() -> None:
    met = {"num_ooms": 1, "out_of_memory": {"requested_bytes": 9 * GIB, "line": "train.py:12"}}
    verdict = command_verdict(a_result(a_process(**met))).partition("): ")[2]
    assert verdict == (
        "ran out of memory at train.py:12, asking for 9.00 GiB more, and went on; what fits: 11.52 GiB free"
    )
    unseen = command_verdict(a_result(a_process(num_ooms=1), found={"device_used_bytes": None}))
    assert unseen.endswith(": ran out of memory and went on; it ran to its end")


def test_a_command_of_which_something_is_unknown_does_not_fit() -> None:
    unknown = dict.fromkeys(("allocated_bytes", "reserved_bytes", "allocated_peak_bytes"))
    untold = a_result(a_process(), a_process(pid=4712, reserved_peak_bytes=GIB, **unknown))
    said = ": it ran to its end, 11.52 GiB free, but not all that it took is known"
    assert command_verdict(untold).endswith(said)
    assert command_verdict(a_result(a_process(), found={"blind_pids": (4712,)})).endswith(said)
    assert command_verdict(a_result(found={"blind_pids": (4712,)})) == (
        "nothing used the card, which process 4712 was not shown: of its memory nothing is known"
    )
    largest = command_verdict(a_result(a_process(**unknown)))
    assert largest.startswith("peak allocated -, reserved 11.00 GiB, device 12.00 GiB of 23.52 GiB")
