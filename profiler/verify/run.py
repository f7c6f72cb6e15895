"""Running jobs on a real card and on its virtual twin, one after the other."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from profiler.errors import ConfigError, EnvironmentUnfitError, PeakvramError
from profiler.execute.local import run_prepared
from profiler.execute.prepare import prepare_job
from profiler.hardware.idle import check_idle
from profiler.hardware.nvml import VIRTUAL_HINT, RealGpu
from profiler.process.leases import lease_device
from profiler.process.protocol import HISTORY
from profiler.process.scratch import ScratchDirectory
from profiler.records.history import History, read_history
from profiler.verify.facts import ask_card
from profiler.verify.parting import JobComparison, compare_runs, refused
from profiler.verify.twin import Twin, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.hardware.discovery import DeviceChoice
    from profiler.jobs.job import JobSpec
    from profiler.process.leases import LeasedDevice
    from profiler.records.schema import PhaseReading, Record

Side = Literal["real", "virtual"]

_RECORDED = "the allocator's history was recorded, which takes time: times are not those of an ordinary run"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinCards:
    """A real card, leased for all the jobs, and its virtual twin."""

    leased: LeasedDevice
    twin: Twin

    @property
    def real(self) -> DeviceChoice:
        """The real card."""
        return self.leased.choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One side of a job."""

    record: Record
    history: History | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedJob:
    """One job on both sides; no runs where it could not be run.

    Attributes:
        comparison: how they compare.
        runs: what each side left.
    """

    comparison: JobComparison
    runs: dict[Side, Run]


class VerifyEvents(Protocol):
    """Who is told how it goes on."""

    def started(self, spec: JobSpec, side: Side) -> None:
        """A side of a job has been started."""

    def phase_ended(self, reading: PhaseReading) -> None:
        """A phase is over."""


@contextmanager
def twin_cards(gpu: str, *, allow_busy: bool = False) -> Iterator[TwinCards]:
    """The real card that is meant, kept from other peakvrams for a block, and its twin.

    Args:
        gpu: `real` or `real:INDEX`.
        allow_busy: take a card that others use; its context then counts what they hold.

    Raises:
        ConfigError: another card than a real one is asked for.
        EnvironmentUnfitError: there is no real card, it cannot be used, or others use it.
    """
    if gpu != "real" and not gpu.startswith("real:"):
        raise ConfigError(
            f"{gpu!r} is no real card, and a virtual one has no twin",
            hint="write real, or real:0 for the first card that CUDA sees",
        )
    with ExitStack() as stack:
        try:
            leased = stack.enter_context(lease_device(gpu, allow_busy=allow_busy))
        except EnvironmentUnfitError as error:
            hint = error.hint.replace(VIRTUAL_HINT, "a virtual card alone has nothing to be held against")
            raise EnvironmentUnfitError(error.message, hint=hint) from error
        card = leased.choice.gpu
        assert isinstance(card, RealGpu), "a real card was asked for"
        check_idle(card, allow_busy=allow_busy)
        yield TwinCards(leased=leased, twin=twin_of(card, ask_card(card)))


def verify_jobs(
    jobs: Sequence[JobSpec],
    cards: TwinCards,
    events: VerifyEvents,
    *,
    timeout_s: float | None = None,
    allow_busy: bool = False,
) -> Iterator[VerifiedJob]:
    """Run every job on both cards and compare, one job after the other.

    A job that cannot be run as it is asked for is not compared; the others go on.

    Raises:
        EnvironmentUnfitError: the first job cannot be run here, nor may any other.
    """
    for number, spec in enumerate(jobs):
        try:
            yield _verify_job(spec, cards, events, timeout_s=timeout_s, allow_busy=allow_busy)
        except PeakvramError as error:
            if number == 0 and isinstance(error, EnvironmentUnfitError):
                raise
            yield VerifiedJob(comparison=refused(spec, error.message), runs={})


def _verify_job(
    spec: JobSpec, cards: TwinCards, events: VerifyEvents, *, timeout_s: float | None, allow_busy: bool
) -> VerifiedJob:
    with ScratchDirectory() as scratch:
        runs: dict[Side, Run] = {}
        sides: dict[Side, DeviceChoice] = {"real": cards.real, "virtual": cards.twin.choice}
        for side, choice in sides.items():
            events.started(spec, side)
            notes = cards.leased.notes if side == "real" else ()
            job = prepare_job(spec, choice, allow_busy=allow_busy, notes=notes)
            path = scratch.path / side
            record = run_prepared(
                replace(job, notes=(*job.notes, _RECORDED)),
                timeout_s=timeout_s,
                on_phase=events.phase_ended,
                keep={HISTORY: path},
            )
            runs[side] = Run(record=record, history=read_history(path) if path.is_file() else None)
    real, virtual = runs["real"], runs["virtual"]
    comparison = compare_runs(real.record, virtual.record, real.history, virtual.history)
    return VerifiedJob(comparison=comparison, runs=runs)
