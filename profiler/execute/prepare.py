"""From a job as it was asked for to one a worker can run: model and card found, directories laid out."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError
from profiler.files import reason_of, replace_file
from profiler.formula.chosen import attention_note
from profiler.formula.runnable import check_runnable
from profiler.hardware.catalogue import Gpu
from profiler.hardware.idle import idle_notes
from profiler.jobs.models import read_config, resolve_model
from profiler.process.environment import read_environment, worker_variables
from profiler.process.protocol import REQUEST, Request
from profiler.process.scratch import SHARED_MEMORY, ScratchDirectory
from profiler.process.tested import newer_than_tested
from profiler.records.fingerprint import fingerprint
from profiler.records.schema import Device
from profiler.virtual.launch import launch_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.hardware.discovery import DeviceChoice
    from profiler.hardware.nvml import RealGpu
    from profiler.jobs.job import JobSpec
    from profiler.jobs.models import ModelSource


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """A job that can be run.

    Attributes:
        spec: the job, its GPU chosen.
        source: its model.
        choice: its card.
        device: the card as a record names it.
        notes: what the record is to say besides.
        kept: names of further files that its worker is to leave, of those of `profiler.process.protocol`.
    """

    spec: JobSpec
    source: ModelSource
    choice: DeviceChoice
    device: Device
    notes: tuple[str, ...]
    kept: frozenset[str] = frozenset()

    @property
    def driver(self) -> str | None:
        """The driver's version; None for a virtual card."""
        return None if isinstance(self.choice.gpu, Gpu) else self.choice.gpu.driver


def prepare_job(
    spec: JobSpec, choice: DeviceChoice, *, allow_busy: bool, notes: tuple[str, ...] = ()
) -> PreparedJob:
    """Find what the job names, and make sure that its card is free.

    Args:
        spec: the job.
        choice: its card, which the caller keeps other peakvrams off.
        allow_busy: whether others may use the card; the record says so.
        notes: what the record is to say besides.

    Raises:
        ConfigError: the job asks for what there is not.
        EnvironmentUnfitError: it cannot run here.
    """
    check_runnable(spec, may_fetch=False)
    source = resolve_model(spec.model, weights=spec.weights, revision=spec.revision)
    if source.kind != "hub":
        read_config(source)  # a damaged one is found out before anything is started
    return PreparedJob(
        spec=spec.model_copy(update={"gpu": _resolved_name(choice)}),
        source=source,
        choice=choice,
        device=describe_device(choice),
        notes=(
            *notes,
            *((note,) if (note := attention_note(spec)) else ()),
            *idle_notes(choice.gpu, allow_busy=allow_busy),
            *newer_than_tested(read_environment(alloc_conf="", driver=None).model_dump()),
        ),
    )


def describe_device(choice: DeviceChoice) -> Device:
    """The card as a record names it; torch tells the rest of a real one."""
    gpu = choice.gpu
    major, minor = gpu.compute_capability
    is_virtual = isinstance(gpu, Gpu)
    return Device(
        kind=choice.kind,
        id=gpu.id if isinstance(gpu, Gpu) else gpu.name.lower().replace(" ", "-"),
        name=gpu.name,
        total_bytes=gpu.total_bytes,
        compute_capability=f"{major}.{minor}",
        num_sms=gpu.num_sms if isinstance(gpu, Gpu) else 0,
        uuid=None if isinstance(gpu, Gpu) else gpu.uuid,
        context_bytes=gpu.context_bytes if isinstance(gpu, Gpu) else None,
        device_used_source="exact" if is_virtual else "sampled",
        reason=choice.reason,
    )


def surroundings_of(spec: JobSpec, choice: DeviceChoice) -> str | None:
    """The fingerprint of what a job's worker will find, known beforehand: its record is looked up by it."""
    alloc_conf, is_virtual = spec.alloc_conf, isinstance(choice.gpu, Gpu)
    variables = worker_variables(os.environ, alloc_conf=alloc_conf, is_virtual=is_virtual)
    driver = None if isinstance(choice.gpu, Gpu) else choice.gpu.driver
    environment = read_environment(alloc_conf=alloc_conf, driver=driver, variables=variables)
    return fingerprint(environment, describe_device(choice))


class Rooms(ExitStack):
    """Where the workers of a pool have their directories: all in two, so that nothing is left of them.

    Attributes:
        directory: for messages and virtual machines.
        scratch: for the workers' own files; on a virtual card in memory, as they hold no data there.
    """

    def __init__(self, gpu: Gpu | RealGpu) -> None:
        """Makes both.

        Raises:
            EnvironmentUnfitError: there is no room, or no permission.
        """
        super().__init__()
        with undone_on_error(self):
            self.directory = _make_directory(self, None)
            self.scratch = _make_directory(self, _scratch_parent(gpu))

    @property
    def paths(self) -> tuple[str, str]:
        """Both, as texts."""
        return str(self.directory), str(self.scratch)


class Workplace(ExitStack):
    """The private directories of one worker, gone when it is left, however the worker ended.

    Attributes:
        directory: of the messages, and of the virtual machine.
        variables: the worker's environment.
        request: what it is asked.
    """

    def __init__(self, job: PreparedJob, *, rooms: Rooms | None = None) -> None:
        """Lays everything out.

        Args:
            job: the worker's.
            rooms: a pool's, to lay it out in; None for directories of its own.

        Raises:
            EnvironmentUnfitError: a virtual GPU cannot work here, or there is no room for the files.
        """
        super().__init__()
        with undone_on_error(self):
            self.directory = _make_directory(self, rooms.directory if rooms else None)
            scratch = _make_directory(self, rooms.scratch if rooms else _scratch_parent(job.choice.gpu))
            self.request = Request(
                spec=job.spec,
                source=job.source,
                device=job.device,
                driver=job.driver,
                scratch=str(scratch),
                notes=job.notes,
                kept=job.kept,
            )
            try:
                replace_file(self.directory / REQUEST, self.request.model_dump_json(), is_durable=False)
                self.variables = self._variables(job)
            except OSError as error:
                raise _no_room(self.directory, error) from error

    def _variables(self, job: PreparedJob) -> dict[str, str]:
        gpu = job.choice.gpu
        is_virtual = isinstance(gpu, Gpu)
        variables = worker_variables(os.environ, alloc_conf=job.spec.alloc_conf, is_virtual=is_virtual)
        temporary = self.directory / "tmp"  # of libraries: it goes with the rest, however the worker ends
        temporary.mkdir()
        variables["TMPDIR"] = str(temporary)
        if isinstance(gpu, Gpu):
            return launch_machine(self.directory / "machine", gpu).environment(variables)
        return variables | {"CUDA_VISIBLE_DEVICES": gpu.uuid}


@contextmanager
def undone_on_error(stack: ExitStack) -> Iterator[None]:
    """Close what has been opened so far if the rest fails."""
    try:
        yield
    except BaseException:
        stack.close()
        raise


def _make_directory(stack: ExitStack, parent: Path | None) -> Path:
    try:
        return stack.enter_context(ScratchDirectory(parent=parent)).path
    except OSError as error:
        raise _no_room(parent or Path(os.environ.get("TMPDIR", "/tmp")), error) from error


def _no_room(directory: Path, error: OSError) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        f"cannot write to {directory}: {reason_of(error)}",
        hint="free some room there, or set TMPDIR to another place",
    )


def _scratch_parent(gpu: Gpu | RealGpu) -> Path | None:
    # On a virtual card the weights are never read: in memory a sparse file costs nothing, and on a disk every
    # touch of one reads ahead. On a real card they are, page by page, which only a disk's cache gives back.
    use_memory = isinstance(gpu, Gpu) and os.access(SHARED_MEMORY, os.W_OK)
    return SHARED_MEMORY if use_memory else None


def _resolved_name(choice: DeviceChoice) -> str:
    if isinstance(choice.gpu, Gpu):
        return choice.gpu.id
    return "real" if choice.gpu.index is None else f"real:{choice.gpu.index}"
