from __future__ import annotations

import ast
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.execute import forkserver, local
from profiler.process.children import call_in_new_python, kill_group


def test_a_function_is_called_with_its_texts_and_our_process_id(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise AssertionError('the directory stands in for the library')")
    command = call_in_new_python("tests.unit.process.test_children", "tell", "one", "two words")
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f"one,two words,{os.getpid()}\n"


def tell(*words: str, parent: int) -> None:
    import random

    assert random.random() < 1
    sys.stdout.write(",".join([*words, str(parent)]) + "\n")


@pytest.mark.parametrize(
    ("module", "function"), [local.WORKER, (forkserver.main.__module__, forkserver.main.__name__)]
)
def test_what_is_named_in_a_text_is_there(module: str, function: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    (found,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    assert [argument.arg for argument in found.args.kwonlyargs] == ["parent"]


def test_a_group_is_killed_whole_and_one_that_is_gone_is_no_error() -> None:
    leader = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None
    int(leader.stdout.readline())
    kill_group(leader.pid)
    assert leader.wait() == -signal.SIGKILL
    assert leader.stdout.read() == "", "who holds it still runs"
    kill_group(leader.pid)
