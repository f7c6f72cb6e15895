from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.jobs.sweep import Sweep
from profiler.records.study import STUDY_NAME, SweepNote, note_sweep, read_notes
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def a_note(command: str = "peakvram sweep smoke", **changes: object) -> SweepNote:
    return SweepNote(command=command, sweep=Sweep.model_validate({"name": "smoke", **changes}))


def test_a_sweep_is_noted_once(tmp_path: Path) -> None:
    note = a_note(axes={"method": ["full", {"kind": "lora", "rank": 8}]}, exclude=[{"seq_len": [512]}])
    note_sweep(tmp_path / "study", note)
    note_sweep(tmp_path / "study", note)
    assert read_notes(tmp_path / "study").sweeps == (note,)


def test_the_same_command_over_a_changed_file_is_noted_anew(tmp_path: Path) -> None:
    note_sweep(tmp_path, a_note())
    note_sweep(tmp_path, a_note("peakvram sweep other"))
    changed = a_note(description="changed")
    note_sweep(tmp_path, changed)
    assert read_notes(tmp_path).sweeps == (a_note("peakvram sweep other"), changed)


def test_a_study_without_notes_has_none(tmp_path: Path) -> None:
    assert read_notes(tmp_path / "none").sweeps == ()


def test_sweeps_that_begin_at_once_are_all_noted(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from profiler.records.study import SweepNote, note_sweep
from profiler.jobs.sweep import Sweep
for number in range(5):
    note_sweep(Path({str(tmp_path)!r}), SweepNote(command=sys.argv[1] + str(number), sweep=Sweep(name="x")))
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, name], cwd=ROOT) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    commands = {note.command for note in read_notes(tmp_path).sweeps}
    assert commands == {f"{name}{number}" for name in "abc" for number in range(5)}


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"sweeps": 3}'])
def test_what_is_no_note_is_named_and_left_alone(content: bytes, tmp_path: Path) -> None:
    (tmp_path / STUDY_NAME).write_bytes(content)
    with pytest.raises(ConfigError, match=r"study.json does not tell of sweeps"):
        note_sweep(tmp_path, a_note())
    assert (tmp_path / STUDY_NAME).read_bytes() == content


def test_a_place_that_takes_no_note_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("")
    with pytest.raises((ConfigError, EnvironmentUnfitError), match="not a directory"):
        note_sweep(tmp_path / "study", a_note())
