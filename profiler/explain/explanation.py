"""What an explained run comes to: an instant, and all that was allocated then, by part and by line."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from profiler.explain.owners import Part, find_owners, without_wrappers
from profiler.explain.traced_run import find_moment, follow_trace
from profiler.records.history import Stack
from profiler.records.schema import GENERATION_PHASES, Bytes, Count, OfPhase, PhaseName
from profiler.records.trace import LOOP, Work
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from profiler.explain.owners import Owner
    from profiler.explain.traced_run import Moment, TracedBlock, TracedRun
    from profiler.records.schema import Record
    from profiler.records.trace import Mark, PhaseTrace, Trace

ENGINE = "PyTorch's autograd engine, no Python line"
"""What stands for a line where there is none."""


class Line(Value):
    """Blocks that one line allocated.

    Attributes:
        line: the innermost one outside of torch: `transformers/models/llama/modeling_llama.py:161 forward`.
        caller: the innermost one of the training loop; empty where another thread ran.
        stack: all that is known, the innermost first.
    """

    line: str
    caller: str
    stack: Stack
    size_bytes: Bytes
    num_blocks: Count


class Group(Value):
    """Blocks of one component that belong to the same part of the model, over all layers, or of the step."""

    name: str
    size_bytes: Bytes
    num_blocks: Count
    lines: tuple[Line, ...]


class Component(Value):
    """All blocks of one component, the largest group first."""

    name: str
    size_bytes: Bytes
    num_blocks: Count
    groups: tuple[Group, ...]


class ExplainedInstant(OfPhase):
    """The instant that is explained.

    Attributes:
        is_failure: whether memory ran out there; else it is the peak.
        requested_bytes: what the request that failed asked for.
        allocated_bytes: what was allocated; at the peak with what was asked for, at a failure without.
        module: the part of the model at work; empty outside of it.
        line: the one that asked.
        stack: all that is known of it, the innermost first.
    """

    is_failure: bool
    requested_bytes: Bytes | None
    allocated_bytes: Bytes
    module: str
    line: str
    caller: str
    stack: Stack


class Explanation(Value):
    """A run's instant, and what was in memory then; the components add up to `instant.allocated_bytes`."""

    instant: ExplainedInstant
    components: tuple[Component, ...]
    notes: tuple[str, ...] = ()


Explained: TypeAlias = "tuple[Explanation, Moment, TracedRun, Mapping[int, Owner]]"
"""The explanation, and what it was made from: the instant, the run and every block's owner."""


def explain_trace(trace: Trace, record: Record) -> Explained | None:
    """Explains a run; None where it ended before anything was allocated."""
    run = follow_trace(trace)
    moment = find_moment(run, record.outcome)
    if moment is None:
        return None
    owners = find_owners(run)
    explanation = Explanation(
        instant=_instant(moment, run),
        components=tuple(_components(run, owners, moment.event)),
        notes=tuple(_notes(trace, moment, record)),
    )
    return explanation, moment, run, owners


def line_of(stack: Stack) -> str:
    """The line that a stack is told by: the innermost of a library that calls torch, or else torch's own."""
    libraries = (line for line in stack if not line.startswith(("torch/", LOOP)))
    return next(libraries, stack[0] if stack else ENGINE)


def _caller_of(stack: Stack) -> str:
    return next((line for line in stack if line.startswith(LOOP)), "")


def _instant(moment: Moment, run: TracedRun) -> ExplainedInstant:
    phase, stack = run.phase_at(moment.event), run.stack_at(moment.event)
    return ExplainedInstant(
        **phase.place._asdict(),
        is_failure=moment.requested_bytes is not None,
        requested_bytes=moment.requested_bytes,
        allocated_bytes=moment.allocated_bytes,
        module=_module(run.mark_at(moment.event), phase),
        line=line_of(stack),
        caller=_caller_of(stack),
        stack=stack,
    )


def _module(mark: Mark, phase: PhaseTrace) -> str:
    """The part of the model at work, of all its blocks the very one."""
    is_stale = mark.work is Work.BACKWARD and not mark.is_of(phase.place)
    passes = (PhaseName.FORWARD, PhaseName.BACKWARD, PhaseName.EVALUATE)
    is_of_the_model = phase.phase in (*passes, *GENERATION_PHASES)
    if not is_of_the_model:
        return ""
    if mark.work in (Work.NONE, Work.HEAD) or is_stale:
        return "output layer and loss"
    return without_wrappers(mark.module)


def _components(run: TracedRun, owners: Mapping[int, Owner], event: int) -> Iterable[Component]:
    found: dict[Part, dict[str, dict[Stack, list[TracedBlock]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for block in run.live_at(event):
        owner = owners[block.number]
        found[owner.part][owner.name][run.stack_at(block.born)].append(block)
    components = [_component(part, groups) for part, groups in found.items()]
    return sorted(components, key=lambda component: -component.size_bytes)


def _component(part: Part, found: Mapping[str, Mapping[Stack, list[TracedBlock]]]) -> Component:
    groups = sorted((_group(name, stacks) for name, stacks in found.items()), key=lambda one: -one.size_bytes)
    return Component(
        name=str(part),
        size_bytes=sum(group.size_bytes for group in groups),
        num_blocks=sum(group.num_blocks for group in groups),
        groups=tuple(groups),
    )


def _group(name: str, stacks: Mapping[Stack, list[TracedBlock]]) -> Group:
    lines = sorted(
        (_line(stack, blocks) for stack, blocks in stacks.items()), key=lambda one: -one.size_bytes
    )
    return Group(
        name=name,
        size_bytes=sum(line.size_bytes for line in lines),
        num_blocks=sum(line.num_blocks for line in lines),
        lines=tuple(lines),
    )


def _line(stack: Stack, blocks: list[TracedBlock]) -> Line:
    return Line(
        line=line_of(stack),
        caller=_caller_of(stack),
        stack=stack,
        size_bytes=sum(block.size_bytes for block in blocks),
        num_blocks=len(blocks),
    )


def _notes(trace: Trace, moment: Moment, record: Record) -> Iterable[str]:
    if trace.is_truncated:
        yield "the history was full before the run was over: what came later is not looked at"
    peak_bytes = record.peak.allocated_bytes if record.peak else moment.allocated_bytes
    if moment.requested_bytes is None and peak_bytes != moment.allocated_bytes:
        yield f"the allocator's own peak is {peak_bytes:,} B, {peak_bytes - moment.allocated_bytes:+,} B more"
    if moment.requested_bytes is not None:
        yield "where memory runs out, what would have been let go next cannot be told from what is kept"
