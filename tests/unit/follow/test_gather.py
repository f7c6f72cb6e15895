from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from profiler.errors import EnvironmentUnfitError
from profiler.follow.gather import command_status, gather, read_reports
from profiler.follow.result import CommandResult, CommandStatus
from profiler.follow.seen import CommandEnd, Sampled
from profiler.follow.surroundings import Surroundings
from profiler.units import GIB
from tests.unit.follow.reports import a_process, a_result

if TYPE_CHECKING:
    from pathlib import Path

WRONG_COLUMN = {"kind": "exit", "error": "KeyError: 'text'"}
INTERRUPTED = {"kind": "exit", "error": "KeyboardInterrupt"}
OUT_OF_MEMORY = {"kind": "exit", "error": "OutOfMemoryError: CUDA out of memory.", "is_out_of_memory": True}


@pytest.mark.parametrize(
    ("ended", "processes", "status"),
    [
        ({"exit_code": 0}, [{}], CommandStatus.OK),
        ({"exit_code": 0}, [], CommandStatus.UNUSED),
        ({"exit_code": 2}, [], CommandStatus.ERROR),
        ({"exit_code": 0}, [{"has_stopped": True}], CommandStatus.STOPPED),
        ({"exit_code": 1}, [{"has_stopped": True}], CommandStatus.ERROR),
        ({"exit_code": 1}, [{"ending": OUT_OF_MEMORY, "num_ooms": 1}], CommandStatus.OOM),
        ({"exit_code": 3}, [{}, {"num_ooms": 1}], CommandStatus.OOM),
        ({"exit_code": 0}, [{"num_ooms": 1}], CommandStatus.OK),
        ({"exit_code": 1}, [{"num_ooms": 1, "ending": WRONG_COLUMN}], CommandStatus.ERROR),
        ({"exit_code": 130, "signal": 2}, [{"num_ooms": 1, "ending": INTERRUPTED}], CommandStatus.KILLED),
        ({"exit_code": 134, "signal": 6}, [{"num_ooms": 1, "ending": None}], CommandStatus.OOM),
        ({"exit_code": 137, "signal": 9}, [{"ending": None}], CommandStatus.KILLED),
        ({"exit_code": 124, "timeout_s": 5.0}, [{"num_ooms": 1}], CommandStatus.TIMEOUT),
    ],
)
def test_how_a_command_ended_in_a_word(
    ended: dict[str, Any], processes: list[dict[str, Any]], status: CommandStatus
) -> None:
    assert (
        command_status(CommandEnd(pid=1, **ended), [a_process(**changes) for changes in processes]) is status
    )


def test_the_process_that_reserved_most_comes_first(tmp_path: Path) -> None:
    for pid, reserved in ((1, 3), (2, 9), (3, 5)):
        report = a_process(pid=pid, reserved_peak_bytes=reserved * GIB)
        (tmp_path / f"{pid}-1.json").write_text(report.model_dump_json())
    (tmp_path / ".4-1.json").write_text("{ half of a repo")
    assert [report.pid for report in read_reports(tmp_path)] == [2, 3, 1]


def test_a_refusal_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "refusal").write_text("the command trains with 4 processes (WORLD_SIZE=4)")
    around = Surroundings(reports=tmp_path, machine=None, variables={})
    with pytest.raises(EnvironmentUnfitError, match="with 4 processes") as caught:
        gather(around, CommandEnd(pid=1, exit_code=1), sampled=Sampled())
    assert caught.value.exit_code == 3
    assert "--nproc-per-node 1" in caught.value.hint


def test_notes_say_what_was_not_seen(tmp_path: Path) -> None:
    (tmp_path / "9.problem").write_text("process 9 was not followed: ImportError: no torch._guards")
    (tmp_path / "1-1.json").write_text(a_process(ending=None, num_ooms=2).model_dump_json())
    around = Surroundings(reports=tmp_path, machine=None, variables={})
    found = gather(around, CommandEnd(pid=1, exit_code=0, num_left=2), sampled=Sampled(used_peak_bytes=GIB))
    assert found.device_used_bytes == GIB
    assert found.notes == (
        "process 9 was not followed: ImportError: no torch._guards",
        "2 processes outlived the command and were ended",
        "process 4711 ran out of memory 2 times and went on",
        "process 4711 did not say how it ended: its figures are those of its last mark",
    )


def test_what_a_process_cannot_tell_itself_is_added(tmp_path: Path) -> None:
    for pid, status in ((1, b""), (2, bytes([7])), (3, b"")):
        report = a_process(pid=pid, reserved_peak_bytes=GIB // pid, device_uuid="abc")
        report = report.model_copy(update={"device_used_bytes": None, "exit_status": None})
        (tmp_path / f"{pid}-1.json").write_text(report.model_dump_json())
        (tmp_path / f"{pid}-1.status").write_bytes(status)
    around = Surroundings(reports=tmp_path, machine=None, variables={}, uuid="GPU-abc")
    ended = CommandEnd(pid=1, exit_code=137, signal=9)
    found = gather(around, ended, sampled=Sampled(process_peaks={1: 5 * GIB, 99: GIB}))
    assert [(p.exit_status, p.device_used_bytes) for p in found.processes] == [
        (137, 5 * GIB),
        (7, None),
        (None, None),
    ]
    assert found.notes == ()


def test_a_command_that_chose_another_card_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "1-1.json").write_text(a_process(device_uuid="0ther").model_dump_json())
    (tmp_path / "2-1.visible").write_text("1")
    for uuid, is_told in (("GPU-chosen", True), ("GPU-0ther", False), ("MIG-slice", False), (None, False)):
        around = Surroundings(reports=tmp_path, machine=None, variables={}, uuid=uuid)
        notes = gather(around, CommandEnd(pid=1, exit_code=0), sampled=Sampled()).notes
        assert bool(notes) == is_told
    (tmp_path / "1-1.json").unlink()
    (note,) = gather(around, CommandEnd(pid=1, exit_code=0), sampled=Sampled()).notes
    assert note.startswith("the command set CUDA_VISIBLE_DEVICES to '1', which may have hidden the card")


def test_a_result_survives_json() -> None:
    result = a_result(a_process(), stop_after=2, routing="worst")
    assert CommandResult.model_validate_json(result.model_dump_json()) == result


def test_the_peak_was_reached_in_the_first_part_that_saw_it() -> None:
    mark = a_process().peak_mark
    assert mark is not None
    assert (mark.part, mark.step) == ("backward", 1)
    assert a_process(marks=()).peak_mark is None
