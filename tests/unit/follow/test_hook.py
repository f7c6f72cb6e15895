"""The hook in processes of their own, with a torch that is a file of one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.follow import hook
from profiler.follow.processes import VARIABLE
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path


class Followed:
    """A directory as a command's processes find it."""

    def __init__(self, directory: Path) -> None:
        self.site, self.reports, self.libraries = (directory / name for name in ("site", "reports", "lib"))
        for made in (self.site, self.reports, self.libraries / "torch"):
            made.mkdir(parents=True)
        settings = {"root": str(directory / "no-package"), "reports": str(self.reports)}
        (self.site / "settings.json").write_text(json.dumps(settings))
        shutil.copyfile(hook.__file__, self.site / "sitecustomize.py")
        (self.libraries / "torch" / "__init__.py").write_text("ANSWER = 42\n")

    def run(self, text: str) -> str:
        paths = os.pathsep.join((str(self.site), str(self.libraries)))
        done = subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.strip()


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


def test_a_process_without_torch_runs_as_ever(followed: Followed) -> None:
    assert followed.run("import sys, json; print('torch' in sys.modules, 'profiler' in sys.modules)") == (
        "False False"
    )
    assert list(followed.reports.iterdir()) == []


def test_without_a_sitecustomize_of_its_own_a_process_has_none(followed: Followed) -> None:
    text = "import sys; print('sitecustomize' in sys.modules, [p for p in sys.path if p.endswith('site')])"
    assert followed.run(text) == "False []"


def test_a_processs_own_sitecustomize_runs_and_takes_its_place(followed: Followed) -> None:
    (followed.libraries / "sitecustomize.py").write_text("import builtins\nbuiltins.is_here = True\n")
    text = "import sys; print(is_here, sys.modules['sitecustomize'].__file__)"
    assert followed.run(text) == f"True {followed.libraries / 'sitecustomize.py'}"


def test_an_error_of_its_own_sitecustomize_is_told_as_ever(followed: Followed) -> None:
    (followed.libraries / "sitecustomize.py").write_text("import no_such_module\n")
    with pytest.raises(AssertionError, match="No module named 'no_such_module'"):
        followed.run("pass")


def test_looking_for_torch_does_not_import_it(followed: Followed) -> None:
    text = """
import importlib.util, sys
spec = importlib.util.find_spec("torch")
assert spec.origin.endswith("__init__.py") and "torch" not in sys.modules
import torch
print(torch.ANSWER, type(torch.__spec__.loader).__name__, vars(torch.__loader__).keys() & {"exec_module"})
"""
    assert followed.run(text) == "42 SourceFileLoader set()"


def test_a_process_that_cannot_be_followed_goes_on_and_says_why(followed: Followed) -> None:
    text = "import sys, torch; print(torch.ANSWER, [n for n in sys.modules if n.startswith('profiler')])"
    assert followed.run(text) == "42 []"
    (problem,) = followed.reports.glob("*.problem")
    assert "was not followed: FileNotFoundError" in problem.read_text()


def test_a_process_of_a_run_within_this_one_is_left_to_that_one(
    followed: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import torch; print(torch.ANSWER)"
    monkeypatch.setenv(VARIABLE, "/another/run")
    assert followed.run(text) == "42"
    assert list(followed.reports.iterdir()) == []
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert followed.run(text) == "42"
    assert len(list(followed.reports.iterdir())) == 1


def test_what_the_copy_says_by_name_is_what_the_package_has() -> None:
    assert hook._VARIABLE == VARIABLE
    assert hook.__name__.partition(".")[0] == hook._PACKAGE
    assert (ROOT / f"{hook._AGENT.replace('.', '/')}.py").is_file()
