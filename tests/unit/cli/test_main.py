"""The command as a process: signals at any moment, and a machine without room, files or memory."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUM_MOMENTS = int(os.environ.get("PEAKVRAM_TEST_MOMENTS", "6"))
PLAN = ["plan", "smoke", "--gpu", "rtx-4090"]
ESTIMATE = ["estimate", "smollm2-135m", "--gpu", "rtx-4090"]
ONLY_LISTENING = """
import os, sys
import profiler.__main__ as entry

listen = entry._Signals.listen
def told(self):
    listen(self)
    os.write(1, b"listens\\n")
entry._Signals.listen = told
sys.argv[0] = "peakvram"
entry.main()
"""


def start(
    arguments: list[str], directory: Path, limit: Callable[[], object] = int
) -> subprocess.Popen[bytes]:
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        limit()

    return subprocess.Popen(
        [sys.executable, "-c", ONLY_LISTENING, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=prepare,  # noqa: PLW1509 - no threads here
        start_new_session=True,
    )


def lifetime_s(arguments: list[str], directory: Path) -> float:
    process = start(arguments, directory)
    assert process.stdout is not None
    process.stdout.readline()
    started_s = time.monotonic()
    process.communicate(timeout=120)
    return time.monotonic() - started_s


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "line"),
    [(signal.SIGINT, b"error: interrupted\n"), (signal.SIGTERM, b"error: ended by SIGTERM\n")],
)
@pytest.mark.parametrize("arguments", [PLAN, ESTIMATE], ids=["plan", "estimate"])
def test_a_signal_at_any_moment_ends_in_one_line(
    arguments: list[str], number: signal.Signals, line: bytes, tmp_path: Path
) -> None:
    whole_s = lifetime_s(arguments, tmp_path)
    num_ended = 0
    for moment in range(NUM_MOMENTS):
        process = start(arguments, tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        time.sleep(whole_s * moment / NUM_MOMENTS)
        process.send_signal(number)
        told = process.communicate(timeout=120)[1]
        if process.returncode == 0:  # it was done before
            continue
        num_ended += 1
        assert process.returncode == 128 + number
        assert told == line
        assert list(tmp_path.iterdir()) == []
    assert num_ended


def test_a_signal_that_a_callback_swallowed_comes_again() -> None:
    code = (
        "import signal, sys, time, types\n"
        "import profiler.__main__ as entry\n"
        "class Lost:\n"
        "    def __del__(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "def run_command(_):\n"
        "    Lost()\n"
        "    time.sleep(60)\n"
        "app = types.ModuleType('profiler.cli.app')\n"
        "app.run_command = run_command\n"
        "sys.modules['profiler.cli.app'] = app\n"
        "entry.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 130
    assert done.stderr == b"error: interrupted\n"


def limited(kind: int, value: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(kind, (value, value))

    return limit


def run_limited(arguments: list[str], directory: Path, limit: Callable[[], None]) -> tuple[int, str]:
    process = start(arguments, directory, limit)
    told = process.communicate(timeout=120)[1].decode()
    return process.returncode, told


def is_one_line_and_a_hint(told: str) -> bool:
    lines = told.splitlines()
    return len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("hint: ")


def test_a_limit_on_the_size_of_files_is_told_in_one_line(tmp_path: Path) -> None:
    code, told = run_limited(
        ["run", "smollm2-135m", "--gpu", "rtx-4090", "--out", "results"],
        tmp_path,
        limited(resource.RLIMIT_FSIZE, 0),
    )
    assert code == 3, told
    assert is_one_line_and_a_hint(told), told


def test_a_limit_on_open_files_is_told_in_one_line(tmp_path: Path) -> None:
    code, told = run_limited(
        ["sweep", "smoke", "--gpu", "rtx-4090", "--out", "results"],
        tmp_path,
        limited(resource.RLIMIT_NOFILE, 8),
    )
    assert code == 3, told
    assert is_one_line_and_a_hint(told), told


def test_no_temporary_directory_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    code, told = run_limited(
        ["exec", "--gpu", "rtx-4090", "--", "true"], tmp_path, limited(resource.RLIMIT_FSIZE, 0)
    )
    assert code == 3, told
    assert is_one_line_and_a_hint(told), told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_a_library_made_an_error_of_its_own_of_ends_in_one_line(
    number: signal.Signals, code: int
) -> None:
    program = (
        "import signal, sys, types\n"
        "import profiler.__main__ as entry\n"
        "def run_command(_):\n"
        "    try:\n"
        f"        signal.raise_signal({int(number)})\n"
        "    except BaseException as error:\n"
        "        raise ValueError(f'Error serializing to JSON: {error!r}') from None\n"
        "app = types.ModuleType('profiler.cli.app')\n"
        "app.run_command = run_command\n"
        "sys.modules['profiler.cli.app'] = app\n"
        "entry.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    said = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    assert (done.returncode, done.stderr.decode()) == (code, f"error: {said}\n")
