"""`peakvram exec` of processes that do not tell what they take, and of launchers that must not hide them."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.follow.result import CommandStatus
from profiler.report.terminal.exec import command_verdict
from profiler.units import MIB
from tests.virtual.following import follow, follow_text, needs_the_library, only

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.follow.result import CommandResult

pytestmark = needs_the_library

TAKES = "import torch; torch.empty(300 << 20, dtype=torch.uint8, device='cuda')"


def check_counted(result: CommandResult) -> None:
    """Nothing was told of a process that took 300 MiB."""
    report = only(result)
    assert (report.allocated_peak_bytes, report.reserved_peak_bytes) == (None, 300 * MIB)
    assert result.device_used_bytes == report.device_used_bytes
    assert (result.status, result.exit_code) == (CommandStatus.OK, 0)
    assert "fits" not in command_verdict(result)
    assert "but not all that it took is known" in command_verdict(result)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_that_is_ended_as_a_pool_ends_its_own_is_counted(method: str, tmp_path: Path) -> None:
    text = """
        import multiprocessing, sys

        def work(pipe):
            import torch
            torch.empty(300 << 20, dtype=torch.uint8, device="cuda")
            pipe.send("done")
            pipe.recv()

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            ours, theirs = context.Pipe()
            child = context.Process(target=work, args=(theirs,), daemon=True)
            child.start()
            assert ours.recv() == "done"
            child.terminate()
            child.join()
    """
    result = follow_text(tmp_path, text, method)
    check_counted(result)
    assert [note.partition(" ")[2].partition(":")[0] for note in result.notes] == [
        f"{only(result).pid} was killed before it told what it took"
    ]


@pytest.mark.parametrize("how", [["-I"], ["-E"], ["-S"]])
def test_a_python_that_finds_no_hook_is_counted(how: list[str], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"import sys; sys.path[:] = {sys.path!r}\n{TAKES}")
    result = follow(sys.executable, *how, str(script))
    check_counted(result)
    assert only(result).command == (sys.executable, *how, str(script))
    assert "was not followed" in result.notes[0]


@pytest.mark.parametrize("lost", [["-i"], ["-u", "LD_PRELOAD", "-u", "LD_LIBRARY_PATH"]])
def test_a_process_without_the_environment_that_shows_it_the_card_is_told(lost: list[str]) -> None:
    text = "import time, torch; assert not torch.cuda.is_available(); time.sleep(1)"
    result = follow("env", *lost, sys.executable, "-c", text)
    assert (result.status, result.processes, len(result.blind_pids)) == (CommandStatus.UNUSED, (), 1)
    assert "of its memory nothing is known" in command_verdict(result)
    assert any("without the environment that shows it the card" in note for note in result.notes)


def test_a_program_that_takes_a_processs_place_is_followed_as_that_one_was(tmp_path: Path) -> None:
    text = f"""
        import os, sys, torch
        torch.empty(20 << 20, dtype=torch.uint8, device="cuda")
        try:
            os.execv("no-such-program", ["no-such-program"])
        except FileNotFoundError:
            torch.empty(30 << 20, dtype=torch.uint8, device="cuda")
        os.execlp(sys.executable, sys.executable, "-c", {TAKES!r})
    """
    result = follow_text(tmp_path, text)
    assert result.status is CommandStatus.OK
    assert [p.allocated_peak_bytes for p in result.processes] == [300 * MIB, 30 * MIB]
    assert [p.ending and p.ending.kind for p in result.processes] == ["exit", "os.exec"]
    assert result.notes == ()


def test_a_console_script_is_followed(tmp_path: Path) -> None:
    script = tmp_path / "train"
    script.write_text(f"#!{sys.executable}\n{TAKES}\n")
    script.chmod(0o755)
    assert only(follow(str(script))).allocated_peak_bytes == 300 * MIB


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_uv_run_is_followed(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TAKES)
    result = follow("uv", "run", "--no-project", "--python", sys.executable, str(script))
    assert only(result).allocated_peak_bytes == 300 * MIB
    assert command_verdict(result).partition("): ")[2].startswith("fits")
