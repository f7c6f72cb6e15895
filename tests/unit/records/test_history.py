from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.records.history import Event, EventKind, PhaseEvents, append_phase, pack_history, read_history
from profiler.records.schema import PhaseName

if TYPE_CHECKING:
    from pathlib import Path

LOAD = PhaseEvents(
    phase=PhaseName.LOAD,
    events=(Event(EventKind.SEGMENT_ALLOC, 2 << 20, 0, 0), Event(EventKind.ALLOC, 512, 0, 1)),
    new_stacks=(("a.py:1 f",), ()),
)
STEP = PhaseEvents(
    phase=PhaseName.STEP, step=1, events=(Event(EventKind.FREE, 512, 0, 2),), new_stacks=(("b.py:2 g",),)
)


def written(path: Path) -> Path:
    for phase in (LOAD, STEP):
        append_phase(path, phase)
    return path


def test_a_history_comes_back_as_it_was_written(tmp_path: Path) -> None:
    history = read_history(written(tmp_path / "history.jsonl"))
    assert history.phases == (LOAD, STEP)
    assert history.stacks == (("a.py:1 f",), (), ("b.py:2 g",))
    assert history.num_events == 3
    assert not history.is_truncated


def test_a_packed_history_is_the_same_and_so_are_its_bytes(tmp_path: Path) -> None:
    history = read_history(written(tmp_path / "history.jsonl"))
    path = tmp_path / "history.jsonl.gz"
    path.write_bytes(pack_history(history))
    assert read_history(path) == history
    assert pack_history(read_history(path)) == path.read_bytes()


def test_a_line_that_its_writer_did_not_finish_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "history.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    assert read_history(path).phases == (LOAD,)
