"""Small traces for tests: a run of two steps with a block of every kind, and shorter ones by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.explain.effects import Effect
from profiler.explain.explanation import explain_trace
from profiler.explain.run import ExplainedRun
from profiler.explain.timeline import make_timelines
from profiler.records.history import EventKind
from profiler.records.schema import Outcome, OutcomeStatus, Peak, PhaseName
from profiler.records.trace import Mark, Owned, PhaseTrace, Trace, TraceEvent, Work
from tests.builders import a_record

if TYPE_CHECKING:
    from profiler.records.schema import Record

KIB = 1024
LIBRARY = "transformers/models/llama/modeling_llama.py:161 forward"
STACKS = (
    ("torch/nn/functional.py:2300 linear", LIBRARY, "profiler/workload/job.py:114 _run_step"),
    (),
    ("torch/optim/adam.py:790 _multi_tensor_adam", "profiler/workload/job.py:127 _run_step"),
    ("transformers/cache_utils.py:136 update", "profiler/workload/generation.py:45 generate"),
)
OUTSIDE = Mark(Work.NONE, "", None)
OK = Outcome(status=OutcomeStatus.OK)


def a_mark(work: Work = Work.FORWARD, module: str = "model.layers.0.mlp", step: int | None = 0) -> Mark:
    return Mark(work, module, step)


class TraceMaker:
    """Writes a trace event by event; a block's number is the order of its allocation."""

    def __init__(self) -> None:
        self._phases: list[PhaseTrace] = []
        self._events: list[TraceEvent] = []
        self._owned: list[Owned] = []
        self._marks: dict[Mark, int] = {}
        self._num_blocks = 0
        self._sizes: dict[int, int] = {}

    def alloc(
        self, size_bytes: int, mark: Mark = OUTSIDE, *, stack: int = 0, requested_bytes: int | None = None
    ) -> int:
        number = self._num_blocks
        self._num_blocks += 1
        self._sizes[number] = size_bytes
        self._add(EventKind.ALLOC, size_bytes, number, mark, stack, requested_bytes)
        return number

    def free(self, number: int, mark: Mark = OUTSIDE) -> None:
        self._add(EventKind.FREE, self._sizes[number], number, mark, 1)

    def fail(self, size_bytes: int, mark: Mark = OUTSIDE) -> None:
        self._add(EventKind.OOM, size_bytes, None, mark, 0)

    def own(self, number: int, component: str, name: str = "", *, size_bytes: int | None = None) -> None:
        size = self._sizes[number] if size_bytes is None else size_bytes
        self._owned.append(Owned(number, size, component, name))

    def end(self, phase: PhaseName, step: int | None = None, **changes: Any) -> None:
        values = {"events": tuple(self._events), "owned": tuple(self._owned), **changes}
        self._phases.append(PhaseTrace(phase=phase, step=step, **values))
        self._events, self._owned = [], []

    def trace(self) -> Trace:
        return Trace(phases=tuple(self._phases), stacks=STACKS, marks=tuple(self._marks))

    def _add(  # noqa: PLR0917 - an event's fields
        self,
        kind: EventKind,
        size_bytes: int,
        number: int | None,
        mark: Mark,
        stack: int,
        requested_bytes: int | None = None,
    ) -> None:
        place = self._marks.setdefault(mark, len(self._marks))
        asked = size_bytes if requested_bytes is None else requested_bytes
        self._events.append(TraceEvent(kind, size_bytes, number, stack, place, asked))


def a_trained_trace() -> Trace:
    """A load, then a step of a checkpointed block; its peak is in the backward pass, 9.5 KiB."""
    made = TraceMaker()
    weight = made.alloc(4 * KIB)
    made.own(weight, "weights", "base_model.model.model.layers.0.mlp.base_layer.weight")
    made.end(PhaseName.LOAD)
    saved = made.alloc(KIB, a_mark())
    scratch = made.alloc(512, a_mark())
    made.free(scratch, a_mark())
    logits = made.alloc(2 * KIB, a_mark(Work.HEAD, "lm_head"))
    made.end(PhaseName.FORWARD, 0)
    logits_gradient = made.alloc(KIB, stack=1)
    made.free(logits)
    again = made.alloc(KIB, a_mark())
    brief = made.alloc(512, a_mark())
    made.free(brief, a_mark())
    backward = a_mark(Work.BACKWARD, "model.layers.0")
    gradient = made.alloc(2 * KIB, backward, stack=1)
    inner = made.alloc(512, backward, stack=1)
    for number in (inner, again, saved, logits_gradient):
        made.free(number, backward)
    made.own(gradient, "gradients", "model.layers.0.mlp.weight")
    made.end(PhaseName.BACKWARD, 0)
    return made.trace()


def an_explained_run(trace: Trace | None = None, record: Record | None = None) -> ExplainedRun:
    """A run of a small trace, with a record whose peak is that of the trace."""
    record = record or a_record()
    found = explain_trace(trace or a_trained_trace(), record)
    assert found is not None
    explanation, moment, run, owners = found
    peak = Peak(allocated_bytes=explanation.instant.allocated_bytes, reserved_bytes=2048 * KIB)
    return ExplainedRun(
        record=record.model_copy(update={"peak": peak}),
        explanation=explanation.model_copy(update={"notes": ()}),
        moment=moment.event,
        timelines=make_timelines(run, owners, moment=moment.event),
    )


def an_effect(**changes: Any) -> Effect:
    values: dict[str, Any] = {
        "flags": "--loop trainer",
        "cost": "nothing",
        "key": "0123456789abcdef",
        "status": OutcomeStatus.OK,
        "allocated_bytes": 8 * KIB,
        "reserved_bytes": 2048 * KIB,
        "saved_bytes": 1536,
    }
    return Effect.model_validate(values | changes)
