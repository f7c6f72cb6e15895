"""A function of a test, run in this process: `python -m tests.virtual.fresh`, the request on stdin."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from profiler.virtual.state import open_state, set_architectures


def answer(request: dict[str, Any]) -> None:
    """Runs the function and writes what it returned, or how it failed, to `answer.json`."""
    try:
        told = {"value": _call(request)}
        text = json.dumps(told)
    except BaseException:
        text = json.dumps({"traceback": traceback.format_exc()})
    (Path(request["directory"]) / "answer.json").write_text(text)


def _call(request: dict[str, Any]) -> Any:
    spec = importlib.util.spec_from_file_location("remote_test", request["file"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if "torch" in sys.modules:
        _choose_architecture(Path(request["environment"]["PEAKVRAM_VGPU"]))
    return getattr(module, request["function"])(*request["arguments"])


def _choose_architecture(state_path: Path) -> None:
    """What the worker does: the cards run the newest of the wheel's kernels that they can."""

    set_architectures(open_state(state_path))


if __name__ == "__main__":
    answer(json.load(sys.stdin))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # torch's autograd threads may outlive the interpreter by a moment and abort it
