"""Functions of the tests, run on a virtual machine made for each: in a warm process, or in a fresh one.

Importing torch, transformers, peft and bitsandbytes takes longer than nearly every test here, so one server
a test process imports them (see `warm.py`) and forks a child for each call. What a function returns goes
through JSON: tuples come back as lists, keys as strings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.hardware.catalogue import find_gpu
from profiler.hardware.torch_build import find_torch_build
from profiler.process.environment import ALLOC_CONF_VARIABLES
from profiler.virtual.launch import as_device
from profiler.virtual.state import (
    Machine,
    Quirk,
    StateLayout,
    create_machine,
    library_path,
    open_state,
)
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

TIMEOUT_S = 120


class RemoteError(AssertionError):
    """The function raised, or its process died; the message holds the traceback and what was written."""


def a_machine(
    directory: Path,
    gpu_id: str = "rtx-4090",
    *,
    count: int = 1,
    quirks: Quirk = Quirk(0),  # noqa: B008 - an immutable value
    **changes: Any,
) -> Machine:
    """A machine with `count` cards of one kind; `changes` replace figures of `VirtualDevice`."""
    device = as_device(find_gpu(gpu_id))
    build = find_torch_build()
    assert build is not None
    assert build.cuda_version is not None
    directory.mkdir(parents=True, exist_ok=True)
    return create_machine(
        directory,
        [replace(device, **changes)] * count,
        library=library_path(),
        cuda_version=build.cuda_version,
        quirks=quirks,
    )


def live_state() -> StateLayout:
    """In a function of a test: the state of the machine it runs on."""
    return open_state(Path(os.environ["PEAKVRAM_VGPU"]))


class Machines:
    """Runs functions on machines made for them; how they are run is for the two kinds below."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(
        self,
        gpu_id: str,
        function: Callable[..., Any],
        *arguments: Any,
        alloc_conf: str = "",
        variables: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Any:
        """What the function returns on a fresh machine with this card.

        Args:
            gpu_id: a card of the catalogue.
            function: of a test module, at its top level.
            arguments: for the function, JSON-able.
            alloc_conf: PYTORCH_ALLOC_CONF.
            variables: other environment variables.
            settings: `count`, `quirks`, or figures of the card, as `a_machine` takes them.
        """
        directory = Path(tempfile.mkdtemp(dir=self._directory, prefix="machine-"))
        machine = a_machine(directory, gpu_id, **settings)
        environment = machine.environment(os.environ) | dict(variables or {})
        if alloc_conf:
            environment |= dict.fromkeys(ALLOC_CONF_VARIABLES, alloc_conf)
        request = {
            "file": function.__code__.co_filename,
            "function": function.__name__,
            "arguments": arguments,
            "environment": environment,
            "directory": str(directory),
        }
        exit_code = self._run(request)
        answer = directory / "answer.json"
        told = json.loads(answer.read_text()) if answer.exists() else {}
        if "value" in told:
            return told["value"]
        output = (directory / "output.txt").read_text(errors="replace")
        failure = told.get("traceback") or f"the process ended with {exit_code}"
        raise RemoteError(f"{failure}\n{output[-4000:]}")

    def _run(self, request: Mapping[str, Any]) -> int:
        raise NotImplementedError


class WarmMachines(Machines):
    """Each call runs in a child of one process that has imported the libraries."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        machine = a_machine(directory / "server")
        self._log = (directory / "server.txt").open("wb")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.virtual.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=machine.environment(os.environ)
            | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> WarmMachines:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: object, _traceback: TracebackType | None
    ) -> None:
        assert self._server.stdin is not None
        with suppress(BrokenPipeError):
            self._server.stdin.close()
        self._server.wait(timeout=TIMEOUT_S)
        self._log.close()

    def _run(self, request: Mapping[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        try:
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            line = self._server.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            told = Path(self._log.name).read_text(errors="replace")
            raise RemoteError(f"the warm process died:\n{told[-4000:]}")
        return int(line)


class FreshMachines(Machines):
    """Each call runs in a new interpreter, which has imported nothing."""

    def _run(self, request: Mapping[str, Any]) -> int:
        with (Path(request["directory"]) / "output.txt").open("wb") as output:
            done = subprocess.run(
                [sys.executable, "-m", "tests.virtual.fresh"],
                input=json.dumps(request).encode(),
                stdout=output,
                stderr=output,
                check=False,
                timeout=TIMEOUT_S,
                cwd=ROOT,
                env=request["environment"],
            )
        return done.returncode
