"""A made-up job whose runs cost nothing: what it does at a point, as a derivation sees it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from profiler.allocator.events import Action, ReplayEvent
from profiler.allocator.replay import replay
from profiler.derive.observe import Asked, Event, Observation, PhaseSteps, Point
from profiler.formula.derived.program import Free
from profiler.hardware.catalogue import load_catalogue
from profiler.records.schema import PhaseName
from profiler.units import MIB
from tests.builders import a_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from profiler.derive.runs import PointRuns

WORKSPACE_BYTES = 8_519_680
ACTIVATION = Asked(("saved activations", "layers.*"), is_workspace=False)
WEIGHT = Asked(("weights", "layers.*"), is_workspace=False)
SCRATCH = Asked(("temporaries", "layers.*"), is_workspace=False)
WORKSPACE = Asked(("workspace", "cuBLAS"), is_workspace=True)


class MadeUpRuns:
    """In place of `PointRuns`.

    Attributes:
        asked: all points that were run, in order.
    """

    def __init__(self, saved: Callable[[Point], int] | None = None, **changes: Any) -> None:
        """What a layer saves is a function of the point; from `change` tokens on there is a scratch more.

        Args:
            saved: the bytes; 2,048 a token if None.
            changes: `change`, from which number of tokens on it does something else; `multiple`, of which a
                length must be one not to be padded; `fails`, whether a run at a point does.
        """
        self.spec = a_job(method="lora", steps=3)
        self.card = load_catalogue()["rtx-4090"]
        self.asked: list[Point] = []
        self._saved = saved or (lambda point: 2048 * point.tokens)
        self._options = SimpleNamespace(
            **({"change": None, "multiple": 1, "fails": lambda _: False} | changes)
        )

    @property
    def num_done(self) -> int:
        """Runs that have ended."""
        return len(self.asked)

    def observe(self, points: Iterable[Point], *, num_steps: int) -> dict[Point, Observation | str]:
        """As `PointRuns.observe`."""
        found: dict[Point, Observation | str] = {}
        for point in points:
            self.asked.append(point)
            found[point] = "it failed" if self._options.fails(point) else self.run(point, num_steps=num_steps)
        return found

    def run(self, point: Point, *, num_steps: int) -> Observation:
        """A run, with the peaks that the allocator's replay gives."""
        run = _Run()
        run.ask(WEIGHT, 30 * MIB)
        phases = [run.end(PhaseName.LOAD)]
        change = self._options.change
        for step in range(num_steps):
            if step == 0:
                run.ask(WORKSPACE, WORKSPACE_BYTES)
            for _ in range(4):
                run.ask(ACTIVATION, self._saved(point))
                if change is not None and point.tokens >= change:
                    run.ask(SCRATCH, 3 * MIB)
                    run.free(1)
                if point.seq_len % self._options.multiple:
                    run.ask(SCRATCH, 2 * point.batch_size * -(-point.seq_len // 8) * 8)
                    run.free(1)
            phases.append(run.end(PhaseName.FORWARD, step))
            run.ask(SCRATCH, 128 * point.batch_size * -(-point.seq_len // 64) * 64)
            run.free(1)
            for _ in range(4):
                run.free_live()
            phases.append(run.end(PhaseName.BACKWARD, step))
        done = replay(run.replayed)
        return Observation(
            point=point,
            structure=tuple(phases),
            sizes=tuple(run.sizes),
            allocated_bytes=done.allocated_peak_bytes,
            reserved_bytes=done.reserved_peak_bytes,
        )

    def as_runs(self) -> PointRuns:
        """As a derivation takes it."""
        return cast("PointRuns", self)


class _Run:
    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.replayed: list[ReplayEvent] = []
        self._events: list[Event] = []
        self._live: list[int] = []

    def ask(self, asked: Asked, size_bytes: int) -> None:
        if asked is ACTIVATION:
            self._live.append(len(self.sizes))
        self.replayed.append(ReplayEvent(Action.ALLOC, len(self.sizes), size_bytes))
        self.sizes.append(size_bytes)
        self._events.append(asked)

    def free(self, back: int) -> None:
        self.replayed.append(ReplayEvent(Action.FREE, len(self.sizes) - back))
        self._events.append(Free(back))

    def free_live(self) -> None:
        self.free(len(self.sizes) - self._live.pop())

    def end(self, name: PhaseName, step: int | None = None) -> PhaseSteps:
        events, self._events = tuple(self._events), []
        return PhaseSteps(name, step, events)
