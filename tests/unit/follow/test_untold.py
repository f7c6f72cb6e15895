from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.follow.gather import command_status, gather
from profiler.follow.result import CommandStatus
from profiler.follow.seen import CommandEnd, Sampled
from profiler.follow.surroundings import Surroundings
from profiler.follow.tree import Started
from profiler.follow.untold import find_untold
from profiler.units import GIB, MIB
from tests.unit.follow.reports import a_process

if TYPE_CHECKING:
    from pathlib import Path

SAMPLED = Sampled(process_peaks={1: 3 * GIB, 2: 2 * GIB, 3: 0}, context_bytes=500 * MIB)


def test_a_process_that_only_the_card_knows_is_told_by_its_counters() -> None:
    end = CommandEnd(pid=2, exit_code=0, started={2: Started(command=("python", "-I", "train.py"))})
    (report,) = find_untold([a_process(pid=1)], end, SAMPLED, is_shared=False)
    assert (report.pid, report.command) == (2, ("python", "-I", "train.py"))
    assert (report.allocated_peak_bytes, report.reserved_peak_bytes) == (None, 2 * GIB - 500 * MIB)
    assert (report.device_used_bytes, report.exit_status) == (2 * GIB, 0)


def test_on_a_real_card_other_peoples_processes_are_not_the_commands() -> None:
    end = CommandEnd(pid=7, exit_code=0, started={7: Started(), 1: Started()})
    assert [report.pid for report in find_untold([], end, SAMPLED, is_shared=True)] == [1]


@pytest.mark.parametrize(
    ("exit_code", "num_ooms", "status"),
    [(1, 0, CommandStatus.OOM), (0, 0, CommandStatus.OK), (1, 1, CommandStatus.ERROR)],
)
def test_a_command_that_failed_on_a_full_card_without_a_word_ran_out_of_memory(
    exit_code: int, num_ooms: int, status: CommandStatus
) -> None:
    told = [a_process(pid=1, num_ooms=num_ooms, ending={"kind": "exit", "error": "KeyError: 'text'"})]
    end = CommandEnd(pid=1, exit_code=exit_code)
    sampled = Sampled(process_peaks=SAMPLED.process_peaks, num_refusals=2)
    untold = find_untold(told, end, sampled, is_shared=False)
    assert command_status(end, [*told, *untold]) is status


@pytest.mark.parametrize(
    ("changes", "is_known"),
    [
        ({"device_used_bytes": 3 * GIB}, True),
        ({"device_used_bytes": 3 * GIB - 1}, False),
        ({"marks": ()}, False),
        ({"device_used_bytes": GIB, "ending": {"kind": "exit"}}, True),
    ],
)
def test_a_process_that_was_killed_is_known_unless_it_took_more_after_it_last_told(
    changes: dict[str, object], is_known: bool, tmp_path: Path
) -> None:
    told = a_process(**{"pid": 1, "ending": None, "reserved_peak_bytes": GIB} | changes)
    (tmp_path / "1-1.json").write_text(told.model_dump_json())
    around = Surroundings(reports=tmp_path, machine=None, variables={})
    found = gather(around, CommandEnd(pid=9, exit_code=0), sampled=SAMPLED)
    (report,) = found.processes
    assert (report.allocated_peak_bytes is not None) == is_known
    assert report.reserved_peak_bytes == (GIB if is_known else 3 * GIB - 500 * MIB)
    assert any("killed before it told" in note for note in found.notes) != is_known
