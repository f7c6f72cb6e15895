from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profiler.process.scratch import ScratchDirectory, clear_leftovers
from tests.builders import ROOT

HOLD = """
import sys, time
from pathlib import Path
from profiler.process.scratch import ScratchDirectory
made = ScratchDirectory("exec", parent=Path(sys.argv[1]))
(made.path / "machine").mkdir()
print(made.path, flush=True)
time.sleep(60)
"""


def age(path: Path, *, by_s: float = 60) -> None:
    then_s = time.time() - by_s
    os.utime(path, (then_s, then_s))


def start_holder(directory: Path) -> tuple[subprocess.Popen[str], Path]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    made = Path(holder.stdout.readline().strip())
    age(made)
    return holder, made


def test_a_directory_is_private_and_gone_with_its_block(tmp_path: Path) -> None:
    with ScratchDirectory("exec", parent=tmp_path) as made:
        assert made.path.name.startswith("peakvram-exec-")
        assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
        (made.path / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_a_live_one_has_is_not(tmp_path: Path) -> None:
    holder, held = start_holder(tmp_path)
    try:
        with ScratchDirectory(parent=tmp_path):
            assert (held / "machine").is_dir()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert held.is_dir()
        with ScratchDirectory(parent=tmp_path):
            assert not held.exists()
    finally:
        holder.kill()
        holder.communicate()
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_left_that_was_killed_just_now_is_removed_by_the_next(tmp_path: Path) -> None:
    holder, held = start_holder(tmp_path)
    age(held, by_s=0)
    holder.kill()
    holder.communicate()
    clear_leftovers(tmp_path)
    assert not held.exists()


def test_a_directory_whose_owner_was_killed_before_it_could_say_so_is_removed_once_it_is_old(
    tmp_path: Path,
) -> None:
    for name, content in (("peakvram-a", ".owner.new"), ("peakvram-b", "of-somebody-else")):
        (tmp_path / name).mkdir()
        (tmp_path / name / content).touch()
        age(tmp_path / name)
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["peakvram-b"]


def test_what_was_half_removed_goes_with_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ScratchDirectory(parent=tmp_path)
    (made.path / "machine").mkdir()
    (made.path / "request.json").touch()
    with monkeypatch.context() as broken:
        broken.setattr("profiler.process.scratch.shutil.rmtree", lambda *_args, **_options: None)
        made.close()
    assert sorted(path.name for path in made.path.iterdir()) == [".owner", "machine"]
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_ended_but_for_its_last_step_goes_with_the_next_run_however_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ScratchDirectory("explain", parent=tmp_path)

    def killed(_directory: Path) -> None:
        raise OSError("killed at rmdir")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "rmdir", killed)
        made.close()
    (left,) = tmp_path.iterdir()
    assert list(left.iterdir()) == []
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_our_own_is_not_a_leftover(tmp_path: Path) -> None:
    with ScratchDirectory(parent=tmp_path) as made:
        age(made.path)
        clear_leftovers(tmp_path)
        assert made.path.is_dir()


def test_what_was_just_made_is_not_a_leftover(tmp_path: Path) -> None:
    (tmp_path / "peakvram-x").mkdir()
    clear_leftovers(tmp_path)
    assert (tmp_path / "peakvram-x").is_dir()
    age(tmp_path / "peakvram-x")
    clear_leftovers(tmp_path)
    assert not (tmp_path / "peakvram-x").exists()


@pytest.mark.parametrize("name", ["peakvram-results", "other"])
def test_what_is_not_a_run_of_ours_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").touch()
    age(tmp_path / name)
    clear_leftovers(tmp_path)
    assert (tmp_path / name / "precious").exists()


def test_a_link_that_was_planted_leads_nowhere(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / ".owner").touch()
    place = tmp_path / "place"
    place.mkdir()
    (place / "peakvram-link").symlink_to(target)
    age(target)
    clear_leftovers(place)
    assert (target / ".owner").exists()
    bait = place / "peakvram-bait"
    bait.mkdir()
    (bait / ".owner").symlink_to(target / ".owner")
    age(bait)
    clear_leftovers(place)
    assert (bait / ".owner").is_symlink()


def test_a_run_clears_shared_memory_too_though_it_has_no_directory_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    own.mkdir()
    shared.mkdir()
    holder, held = start_holder(shared)
    monkeypatch.setattr("profiler.process.scratch.SHARED_MEMORY", shared)
    try:
        with ScratchDirectory(parent=own):
            assert held.is_dir()
    finally:
        holder.kill()
        holder.communicate()
    with ScratchDirectory(parent=own):
        assert not held.exists()


def test_where_no_file_can_be_opened_nothing_is_left(tmp_path: Path) -> None:
    code = f"""
import os, resource
from pathlib import Path
from profiler.process.scratch import ScratchDirectory
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    ScratchDirectory(parent=Path({str(tmp_path)!r}))
except OSError as error:
    print(error.strerror)
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert made.stdout == "Too many open files\n"
    assert list(tmp_path.iterdir()) == []
