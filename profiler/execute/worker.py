"""The process that runs one job: `run_process` in an interpreter of its own.

It reads the request, runs the job phase by phase, and leaves its report in the directory. It ends with exit
code 0 whenever the report says how the job ended, out of memory included.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch

from profiler.errors import ConfigError, MachineFaultError, PeakvramError
from profiler.execute.raised import describe_error
from profiler.files import replace_file
from profiler.hardware.discovery import find_real_gpus
from profiler.hardware.sampler import UsedMemorySampler
from profiler.hardware.visible import match_by_uuid
from profiler.measure.device import DeviceMeter, ExactMeter, SampledMeter
from profiler.measure.history import HistoryRecorder
from profiler.measure.host import ComputedHost, MeasuredHost
from profiler.measure.phases import Recorder
from profiler.measure.trace import TraceRecorder
from profiler.process.children import signal_at_end_of
from profiler.process.environment import ALLOC_CONF_VARIABLES, read_environment
from profiler.process.faults import FAULT_EXIT_CODE, machine_fault
from profiler.process.out_of_memory import is_out_of_memory
from profiler.process.protocol import (
    EVENTS,
    HISTORY,
    REFUSAL,
    REPORT,
    REQUEST,
    SNAPSHOT,
    TRACE,
    Request,
    WorkerRefusal,
)
from profiler.records.schema import Outcome, OutcomeStatus, ValueReads, WorkerReport
from profiler.virtual.state import (
    STATE_VARIABLE,
    StateLayout,
    open_state,
    set_architectures,
    unknown_functions,
    workspaces_left_out,
)
from profiler.virtual.torch_private import ALLOCATOR_SETTINGS, MEMORY_OBSERVER
from profiler.virtual.values import TrueValues
from profiler.workload.job import run_phases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiler.jobs.job import JobSpec
    from profiler.records.schema import PhaseReading

_MAX_SITES = 20


class Worker:
    """One job of one process, and the report that grows with it."""

    def __init__(  # noqa: PLR0913 - a job, where its report goes, and how closely it is told
        self,
        directory: Path,
        request: Request,
        meter: DeviceMeter,
        state: StateLayout | None,
        *,
        before_steps: Callable[[JobSpec], JobSpec] = lambda spec: spec,
        is_brief: bool = False,
    ) -> None:
        """Prepares the report; nothing is run yet.

        Args:
            directory: where the report goes.
            request: the job.
            meter: of the card's used memory.
            state: of the virtual card; None for a real one.
            before_steps: as `run_phases` takes it.
            is_brief: whether the report has no notes, and is written once, at the end.
        """
        self._directory = directory
        self._is_brief = is_brief
        self._before_steps = before_steps
        self._request = request
        self._meter = meter
        self._state = state
        self._values = TrueValues() if state is not None else None
        self._history = HistoryRecorder(directory / HISTORY) if HISTORY in request.kept else None
        self._requested_bytes: int | None = None
        self._job_notes: tuple[str, ...] = ()
        self._recorder = Recorder(
            meter=meter,
            has_time=state is None,
            on_reading=self._add_reading,
            host=MeasuredHost() if state is None else ComputedHost(state),
        )
        self._trace = _trace_recorder(directory, request, self._recorder)
        self._report = WorkerReport(
            device=request.device,
            environment=read_environment(alloc_conf=request.spec.alloc_conf, driver=request.driver),
            notes=request.notes,
        )

    def continue_in(self, directory: Path) -> None:
        """Leave the report, and the trace if there is one, in another directory from now on."""
        self._directory = directory
        if self._trace is not None:
            self._trace.continue_in(directory / EVENTS)

    def run(self) -> None:
        """Run the job; the report says how it ended.

        Raises:
            PeakvramError: the job cannot be run as it was asked for.
        """
        MEMORY_OBSERVER.find()(self._remember_request)
        with self._values or nullcontext():
            try:
                run_phases(
                    self._request.spec,
                    self._request.source,
                    self._recorder,
                    scratch=Path(self._request.scratch),
                    on_parameters=lambda parameters: self._write(parameters=parameters),
                    on_notes=None if self._is_brief else self._set_notes,
                    before_steps=self._before_steps,
                )
                outcome = Outcome(status=OutcomeStatus.OK)
            except PeakvramError:
                raise
            except Exception as error:  # whatever else the libraries raise is this job's outcome
                _refuse_fault(error, self._state)
                outcome = self._outcome_of(error)
        self._write(outcome=outcome)

    def _outcome_of(self, error: Exception) -> Outcome:
        place = {} if self._recorder.current is None else self._recorder.current._asdict()
        if is_out_of_memory(error):
            return Outcome(
                **place,
                status=OutcomeStatus.OOM,
                message=str(error),
                requested_bytes=self._requested_bytes,
            )
        traceback.print_exception(error)
        return Outcome(**place, status=OutcomeStatus.ERROR, message=describe_error(error))

    def _remember_request(
        self, _device: int, requested_bytes: int, _total_bytes: int, _free_bytes: int
    ) -> None:
        self._requested_bytes = requested_bytes

    def _add_reading(self, reading: PhaseReading) -> None:
        if self._history is not None:
            self._history.end_phase(reading.place)
        if self._trace is not None:
            self._trace.end_phase(reading)
        self._write(phases=(*self._report.phases, reading))

    def _set_notes(self, notes: tuple[str, ...]) -> None:
        self._job_notes = notes
        self._write()

    def _notes(self) -> Iterator[str]:
        yield from self._request.notes
        yield from self._job_notes
        if self._state is not None:
            yield from _virtual_notes(self._state)
        if self._meter.problem:
            yield f"some device figures are missing: {self._meter.problem}"
        if self._recorder.host.problem:
            yield f"no figures of the host's memory: {self._recorder.host.problem}"

    def _write(self, **changes: object) -> None:
        if self._is_brief and "outcome" not in changes:
            self._report = self._report.model_copy(update=changes)
            return
        changes["notes"] = tuple(self._notes())
        if self._values is not None:
            changes["value_reads"] = _value_reads(self._values)
        if self._state is not None:
            changes["managed_bytes"] = self._state.managed_peak_bytes
        self._report = self._report.model_copy(update=changes)
        replace_file(self._directory / REPORT, self._report.model_dump_json(), is_durable=False)


def _refuse_fault(error: Exception, state: StateLayout | None) -> None:
    """Raises what is wrong with this machine, where that is what an error of the libraries comes from."""
    if not is_out_of_memory(error):
        fault = machine_fault(error)
    elif state is not None and state.num_host_refusals:  # its memory stands behind a virtual card's
        fault = machine_fault(MemoryError())
    else:
        return
    if fault is not None:
        raise MachineFaultError(f"the job could not be run: {fault[0]}", hint=fault[1]) from error


def _trace_recorder(directory: Path, request: Request, recorder: Recorder) -> TraceRecorder | None:
    name = next((name for name in (TRACE, EVENTS) if name in request.kept), None)
    if name is None:
        return None
    return TraceRecorder(
        directory / name,
        recorder,
        alloc_conf=request.spec.alloc_conf,
        snapshot_path=directory / SNAPSHOT if SNAPSHOT in request.kept else None,
        has_stacks=name == TRACE,
    )


def _value_reads(values: TrueValues) -> ValueReads:
    sites = values.unknown_reads.sites
    return ValueReads(
        unknown=values.unknown_reads.total,
        sites=tuple(f"{site} x{n}" for site, n in sites.most_common(_MAX_SITES)),
    )


def _virtual_notes(state: StateLayout) -> list[str]:
    notes = workspaces_left_out(state)
    if names := unknown_functions(state):
        listed = ", ".join(names)
        notes.append(f"the virtual GPU does not implement these functions, which answered an error: {listed}")
    return notes


def apply_alloc_conf(text: str) -> None:
    """Give the allocator its settings where they can be refused: in the environment, wrong ones abort torch.

    Raises:
        ConfigError: this torch does not take them.
    """
    apply = ALLOCATOR_SETTINGS.find_if_there()
    if not text or apply is None:  # torch before 2.9 reads the environment alone
        return
    set_aside = {name: os.environ.pop(name) for name in ALLOC_CONF_VARIABLES if name in os.environ}
    try:
        apply(text)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"torch {torch.__version__} does not take alloc_conf {text!r}: {error}",
            hint="its documentation lists the settings under PYTORCH_ALLOC_CONF",
        ) from error
    finally:
        os.environ.update(set_aside)


def _run_virtual(directory: Path, request: Request) -> None:
    state = open_state(Path(os.environ[STATE_VARIABLE]))
    set_architectures(state)
    Worker(directory, request, ExactMeter(state), state).run()


def _run_real(directory: Path, request: Request) -> None:
    # The parent made this card the only visible one, by UUID; torch confirms which it is (2.4 does not tell).
    properties = torch.cuda.get_device_properties(0)
    gpu = match_by_uuid(find_real_gpus().gpus, str(getattr(properties, "uuid", request.device.uuid)))
    device = request.device.model_copy(
        update={
            "total_bytes": properties.total_memory,
            "num_sms": properties.multi_processor_count,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "device_used_source": "none" if gpu is None else "sampled",
        }
    )
    request = request.model_copy(update={"device": device})
    if gpu is None:
        Worker(directory, request, DeviceMeter(), None).run()
        return
    with UsedMemorySampler(gpu) as sampler:
        Worker(directory, request, SampledMeter(sampler), None).run()


def main(directory: Path) -> int:
    """Run the request in `directory`. 0 if its report says how it ended; a refusal's own exit code."""
    request = Request.model_validate_json((directory / REQUEST).read_text())
    try:
        apply_alloc_conf(request.spec.alloc_conf)
        if request.device.kind == "virtual":
            _run_virtual(directory, request)
        else:
            _run_real(directory, request)
    except PeakvramError as error:
        return _tell(directory, error)
    except (OSError, MemoryError) as error:  # past what the job does: its report could not be written
        if (fault := machine_fault(error)) is None:
            raise
        return _tell(directory, MachineFaultError(f"the job could not be run: {fault[0]}", hint=fault[1]))
    return 0


def _tell(directory: Path, error: PeakvramError) -> int:
    """Leave a refusal. The exit code says that the machine failed where there is no room even for that."""
    try:
        replace_file(directory / REFUSAL, WorkerRefusal.of(error).model_dump_json(), is_durable=False)
    except OSError:
        return FAULT_EXIT_CODE
    return error.exit_code


def run_process(directory: str, *, parent: int | None = None) -> NoReturn:
    """Run the request in `directory` as all that this process does, then end it.

    Args:
        directory: what parent and worker share.
        parent: the process not to outlive; None where whoever forked this one has seen to that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a KeyboardInterrupt would pass for an error of the job
    # A job nobody waits for would hold a GPU.
    if parent is not None and not signal_at_end_of(parent, signal.SIGKILL):
        os._exit(1)
    code = main(Path(directory))
    sys.stdout.flush()
    sys.stderr.flush()
    # torch's autograd threads may outlive the interpreter by a moment and abort it; the report is on disk.
    os._exit(code)
