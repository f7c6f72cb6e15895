from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from profiler.report.page.shell import script_of
from profiler.report.page.study import SCRIPTS
from tests.builders import ROOT

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
LINTER = ROOT / "scripts" / "_lint_pages.py"


def faults_of(script: str) -> str:
    node = ["node", "--expose-internals", str(ROOT / "scripts" / "_names.cjs")]
    return subprocess.run(node, input=script, capture_output=True, text=True, check=False).stderr


def test_nothing_is_wrong_with_the_scripts_of_any_page() -> None:
    done = subprocess.run([sys.executable, LINTER], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.splitlines() == ["study: ok", "explain: ok"]


def test_a_name_that_is_planted_in_one_file_is_missed_on_the_page() -> None:
    script = script_of(SCRIPTS)
    assert "colator is not defined" in faults_of(script.replace("collator.compare(", "colator.compare("))


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("let a = 1; b(a);", "line 1: b is not defined"),
        ("const a = { b }; document.write(a);", "line 1: b is not defined"),
        ("const { a, b: c } = window; c();", "line 1: a is never used"),
        ("var a = 1; window.b = a;", "line 1: var: use const or let"),
        ("window.a = window.b == 1;", "line 1: == converts: use ==="),
        ("const a = 1;\nconst a = 2;", "Identifier 'a' has already been declared"),
        ("{ const a = 1; window.b = a; }\nwindow.c = a;", "line 2: a is not defined"),
    ],
)
def test_each_fault_is_named_with_its_line(script: str, fault: str) -> None:
    assert fault in faults_of(script)


@pytest.mark.parametrize(
    "script",
    ["const f = ({ a, ...b }, [c = 1]) => [a, b, c, { a }]; f();", "for (const [a, b] of window.c) a(b.d);"],
)
def test_what_is_right_is_let_be(script: str) -> None:
    assert faults_of(script) == ""
