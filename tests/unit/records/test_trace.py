from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.records.history import append_phase
from profiler.records.trace import Trace, read_trace
from tests.unit.explain.traces import STACKS, a_trained_trace

if TYPE_CHECKING:
    from pathlib import Path


def written(path: Path, trace: Trace) -> None:
    for place, phase in enumerate(trace.phases):
        tables = {"new_stacks": trace.stacks, "new_marks": trace.marks} if place == 0 else {}
        append_phase(path, phase.model_copy(update=tables))


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    trace = a_trained_trace()
    written(tmp_path / "trace.jsonl", trace)
    found = read_trace(tmp_path / "trace.jsonl")
    assert (found.stacks, found.marks) == (STACKS, trace.marks)
    assert [phase.events for phase in found.phases] == [phase.events for phase in trace.phases]
    assert [phase.claims for phase in found.phases] == [phase.claims for phase in trace.phases]


def test_a_line_that_its_writer_did_not_finish_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    written(path, a_trained_trace())
    whole = path.read_text()
    path.write_text(whole[: len(whole) - 20])
    assert [phase.phase for phase in read_trace(path).phases] == ["load", "forward"]
