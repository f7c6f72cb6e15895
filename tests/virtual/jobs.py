"""Jobs for tests: small models, and whole jobs in a child of the warm process."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import traceback
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any
from unittest import mock

from profiler.errors import PeakvramError
from profiler.jobs.job import JobSpec
from profiler.process.protocol import REQUEST, Request
from profiler.records.schema import Components, PhaseName, PhaseReading, Record
from profiler.virtual.state import STATE_VARIABLE, Quirk, open_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.virtual.state import Machine
    from tests.virtual.harness import WarmMachines

# Large enough for 8-bit optimizers (bitsandbytes leaves states of fewer than 4096 elements in 32 bits).
TINY_LLAMA: Mapping[str, object] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}


def a_model(directory: Path, **changes: object) -> str:
    """A directory with the config of a small model: two layers of a Llama, but for `changes`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({**TINY_LLAMA, **changes}))
    return str(directory)


def a_job(**changes: Any) -> JobSpec:
    """A small job: two rows of 256 tokens on a virtual RTX 4090."""
    values = {"gpu": "rtx-4090", "batch_size": 2, "seq_len": 256, "method": "full"}
    return JobSpec.model_validate(values | changes)


def run_warm(virtual_gpu: WarmMachines, spec: JobSpec, **options: Any) -> Record:
    """`run_job`, its worker a fork of a process that has imported the libraries.

    Args:
        virtual_gpu: the fixture.
        spec: the job.
        options: as `run_forked` takes them.
    """
    told = run_forked(virtual_gpu, spec, **options)
    assert "exit_code" not in told, told
    return Record.model_validate(told)


def phase(record: Record, name: PhaseName, step: int | None = None) -> PhaseReading:
    """One phase of a record."""
    (reading,) = [phase for phase in record.phases if (phase.name, phase.step) == (name, step)]
    return reading


def components(record: Record, name: PhaseName, step: int | None = None) -> Components:
    """What was allocated at the end of one phase."""
    counted = phase(record, name, step).components
    assert counted is not None
    return counted


def without_times(record: Record) -> list[dict[str, object]]:
    """Every figure of every phase but how long it took."""
    return [reading.model_dump(exclude={"elapsed_s"}) for reading in record.phases]


def run_forked(
    virtual_gpu: WarmMachines,
    spec: JobSpec,
    *,
    machine: Machine | None = None,
    variables: Mapping[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`run_job` in a child of the warm process.

    Args:
        virtual_gpu: the fixture.
        spec: the job.
        machine: whose cards `run_job` takes for real ones; None for a machine without a card.
        variables: the environment of `run_job`, besides.
        options: `allow_busy` and `timeout_s`, as `run_job` takes them; `signals`, a signal's number by the
            phase after which the worker gets it; `lost_after`, the phase after which NVML loses the card.

    Returns:
        The record, or the error's `message`, `hint` and `exit_code`.
    """
    # The harness's own machine has no card: it would ask torch which architectures the card can run, after
    # which torch refuses to work in a fork.
    directory = str(machine.directory) if machine else None
    arguments = (spec.model_dump_json(), options, directory)
    told = virtual_gpu("a100-80gb", _run_job, *arguments, variables=variables, count=0)
    assert isinstance(told, dict)
    return told


def _run_job(spec: str, options: dict[str, Any], machine: str | None) -> dict[str, Any]:
    """In the child."""
    from profiler.execute import local

    if machine:
        os.environ[STATE_VARIABLE] = str(Path(machine, "state"))
        _attach(os.environ)
    signals, lost_after = options.pop("signals", {}), options.pop("lost_after", None)

    def on_phase(reading: PhaseReading) -> None:
        if reading.name in signals:
            os.kill(ForkedWorker.last_pid, signals.pop(reading.name))
        if reading.name == lost_after:
            open_state(Path(os.environ[STATE_VARIABLE])).quirks = int(Quirk.LOST)

    parts = SimpleNamespace(Popen=ForkedWorker, DEVNULL=subprocess.DEVNULL)
    with mock.patch.object(local, "subprocess", parts):
        try:
            record = local.run_job(JobSpec.model_validate_json(spec), on_phase=on_phase, **options)
        except PeakvramError as error:
            return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    return record.model_dump(mode="json")


def _attach(environ: Mapping[str, str]) -> None:
    assert ctypes.CDLL(None).vgpu_attach(environ[STATE_VARIABLE].encode()) == 0


class ForkedWorker:
    """In place of `subprocess.Popen` in `profiler.execute.local`: the worker as a fork.

    Nothing else of `run_job` is replaced: it finds the card, gives out its environment and judges the end.
    """

    last_pid = 0

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], stderr: IO[bytes], **_: object
    ) -> None:
        self.returncode: int | None = None
        parent = os.getpid()
        self.pid = ForkedWorker.last_pid = os.fork()
        if self.pid == 0:
            try:
                self._work(command[-1], parent, env, stderr)
            except BaseException:
                traceback.print_exc()
            os._exit(1)

    def _work(self, directory: str, parent: int, env: Mapping[str, str], stderr: IO[bytes]) -> None:
        from profiler.execute.worker import run_process
        from profiler.virtual.values import TrueValues

        os.setsid()
        for descriptor in (1, 2):
            os.dup2(stderr.fileno(), descriptor)
        os.environ.clear()
        os.environ.update(env)
        _attach(env)
        request = Request.model_validate_json(Path(directory, REQUEST).read_text())
        with TrueValues() if request.device.kind == "real" else nullcontext():  # a real card computes
            run_process(directory, parent=parent)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode
