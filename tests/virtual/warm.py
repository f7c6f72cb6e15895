"""A process that imports the libraries once and forks a child a request: `python -m tests.virtual.warm`.

Nothing before the fork may ask the CUDA runtime for its devices: torch marks the children of a process that
did as unfit for CUDA. NVML may be asked (PYTORCH_NVML_BASED_CUDA_CHECK=1, which this process must be started
with), and that maps the state of the machine this process was started on, so a child attaches to its own.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from tests.virtual.fresh import answer
from tests.virtual.harness import TIMEOUT_S


def import_libraries() -> None:
    """Imports what the tests use, without a word to the CUDA runtime."""
    import torch

    # bitsandbytes asks for capabilities, which would initialise CUDA, to choose one of its libraries.
    with mock.patch("torch.cuda.get_device_capability", return_value=(8, 0)):
        import bitsandbytes

        assert bitsandbytes.cextension.lib.compiled_with_cuda
    for name in (
        "hypothesis",
        "pytest",
        "pynvml",
        "peft",
        "transformers",
        "transformers.models.auto.modeling_auto",
    ):
        importlib.import_module(name)
    for family in ("llama", "mistral", "qwen2", "mixtral"):
        importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    importlib.import_module("profiler.execute.worker")
    assert not torch.cuda.is_initialized()


def serve() -> None:
    """A child for every line of stdin; its exit code, negative for a signal, on stdout."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(request: dict[str, Any]) -> None:
    with (Path(request["directory"]) / "output.txt").open("wb") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    faulthandler.enable()
    faulthandler.dump_traceback_later(TIMEOUT_S, exit=True)
    os.environ.clear()
    os.environ.update(request["environment"])
    _move_to(Path(request["environment"]["PEAKVRAM_VGPU"]))
    answer(request)
    sys.stdout.flush()
    sys.stderr.flush()


def _move_to(state_path: Path) -> None:
    import torch

    assert not torch.cuda._is_in_bad_fork()
    assert ctypes.CDLL(None).vgpu_attach(str(state_path).encode()) == 0


if __name__ == "__main__":
    import_libraries()
    serve()
