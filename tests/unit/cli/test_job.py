from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer

from profiler.cli.app import build_app, run_command
from profiler.jobs.flags import JOB_FLAGS
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TAKE_A_JOB = ["run", "estimate", "explain"]
EDITS = {
    "    steps: training steps to run.\n": "    num_replicas: copies of the model.\n",
    "    steps: Annotated[": "    num_replicas: Count = 3\n",
    "        alpha (A): scale of the adapters.\n": "        use_bias (B): train biases too.\n",
    "    alpha: Count": "    use_bias: Flag = True\n",
}
"""Before which lines of the job's module something is put in: two keys, each with what it is said to be."""


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package in which a job and its adapters have one key more."""
    directory = tmp_path_factory.mktemp("edited")
    shutil.copytree(ROOT / "profiler", directory / "profiler", ignore=shutil.ignore_patterns("*.so", "*.pyc"))
    (directory / "configs").symlink_to(ROOT / "configs")
    module = directory / "profiler" / "jobs" / "job.py"
    text = module.read_text()
    for before, line in EDITS.items():
        assert text.count(before) == 1, before
        indent = " " * (len(before) - len(before.lstrip())) if line.lstrip() == line else ""
        text = text.replace(before, indent + line + before)
    module.write_text(text)
    return directory


def said_by(directory: Path, code: str) -> str:
    """What a program prints with the package in `directory`."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("command", TAKE_A_JOB)
def test_a_key_added_to_a_job_is_in_the_help(command: str, edited: Path) -> None:
    code = f"from profiler.cli.app import run_command\nassert run_command([{command!r}, '--help']) == 0"
    text = " ".join(said_by(edited, code).split())
    assert "--num-replicas N Copies of the model (default 3)" in text
    assert "--bias / --no-bias Train biases too (default on)" in text


def test_a_key_added_to_a_job_reaches_it(edited: Path) -> None:
    code = (
        "from profiler.jobs.flags import read_job\n"
        "flags = {'model': 'x', 'num_replicas': '5', 'bias': False}\n"
        "print(read_job(flags, data={}, environ={})[0].model_dump_json())"
    )
    job = json.loads(said_by(edited, code))
    assert job["num_replicas"] == 5
    assert job["method"]["use_bias"] is False


@pytest.mark.parametrize("command", TAKE_A_JOB)
def test_a_command_that_takes_a_job_has_every_flag_of_it(command: str) -> None:
    group: Any = typer.main.get_command(build_app([command]))
    parameters = [parameter.name for parameter in group.commands[command].params]
    assert parameters[: len(JOB_FLAGS)] == [flag.name for flag in JOB_FLAGS]


def test_the_values_of_a_choice_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_PEAKVRAM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "peakvram estimate --optimizer paged")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        run_command([])
    assert capsys.readouterr().out.split() == ["paged_adamw_8bit", "paged_adamw_32bit"]


def test_a_list_of_the_commands_imports_none_of_them() -> None:
    code = """
import sys
from profiler.cli.app import COMMANDS, run_command
assert run_command(["--help"]) == 0
print([name for name in COMMANDS if f"profiler.cli.{name}" in sys.modules], "pydantic" in sys.modules)
"""
    assert said_by(ROOT, code).splitlines()[-1] == "[] False"
