"""What an explained run leaves: a file with one JSON line a phase, written as the phase ends.

It has the allocator's events with the module and the lines behind each, and whose every block was. A block is
named by the order of allocation, as in `profiler.records.history`, whose kinds of events these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from profiler.records.history import EventKind, Stack, read_phases
from profiler.records.schema import OfPhase

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.records.schema import PhasePlace


LOOP = "profiler/workload/"
"""Where the lines of the training loop itself are."""


class Work(StrEnum):
    """What a thread was doing when it asked for memory.

    `forward`: in a module's forward pass, recomputed ones included. `head`: in the output layer, or in the
    forward pass around it, where the loss is. `backward`: in autograd, after the named module's turn.
    `none`: outside of the model.
    """

    FORWARD = "forward"
    HEAD = "head"
    BACKWARD = "backward"
    NONE = ""


class Mark(NamedTuple):
    """Where in the model a thread was.

    Attributes:
        work: what it did.
        module: the module's path in the model (`model.layers.0.mlp`); empty for the model itself.
        step: the training step the mark was set in: autograd's thread keeps one beyond its step.
        micro_step: the micro batch it was set in, where a step has several.
    """

    work: Work
    module: str
    step: int | None
    micro_step: int | None = None

    def is_of(self, place: PhasePlace) -> bool:
        """Whether it was set in a phase, or another of that batch."""
        return (self.step, self.micro_step) == place[1:]


class TraceEvent(NamedTuple):
    """One event of the allocator.

    Attributes:
        kind: what happened.
        size_bytes: of a block what the allocator counts for it; of a segment its own; of a request that
            failed what was asked for.
        number: which block, from 0 in the order of allocation; None for what is no block.
        stack: the number of its stack in the run's table.
        mark: the number of its mark in the run's table.
        requested_bytes: what was asked for, before rounding; of a segment its size.
    """

    kind: EventKind
    size_bytes: int
    number: int | None
    stack: int
    mark: int
    requested_bytes: int


class Owned(NamedTuple):
    """Whose a block was at a phase's end.

    Attributes:
        number: the block.
        size_bytes: its size as the allocator counts it.
        component: a component of a record (`weights`); empty where no tensor of the job owns it.
        name: the tensor's, such as `model.layers.0.mlp.up_proj.weight`.
    """

    number: int
    size_bytes: int
    component: str
    name: str


class PhaseTrace(OfPhase):
    """One line of the file: from the end of the phase before to the end of this one.

    Attributes:
        events: in order; empty where the history was full, in this phase and all after it.
        new_stacks: the stacks that come up here first, innermost line first; they continue the run's table.
        new_marks: the marks that come up here first.
        owned: of the blocks in use at the end, those that had another owner, or none yet, before.
        is_truncated: whether more happened than the history holds.
    """

    events: tuple[TraceEvent, ...] = ()
    new_stacks: tuple[Stack, ...] = ()
    new_marks: tuple[Mark, ...] = ()
    owned: tuple[Owned, ...] = ()
    is_truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """An explained run.

    Attributes:
        phases: in order; recording starts once there is a CUDA context, before the first allocation.
        stacks: the table that events refer to.
        marks: the other one.
    """

    phases: tuple[PhaseTrace, ...]
    stacks: tuple[Stack, ...]
    marks: tuple[Mark, ...]

    @property
    def is_truncated(self) -> bool:
        """Whether more happened than was kept."""
        return any(phase.is_truncated for phase in self.phases)


def read_trace(path: Path) -> Trace:
    """Reads a trace.

    Raises:
        OSError: the file cannot be read.
    """
    phases = read_phases(path.read_bytes(), PhaseTrace)
    return Trace(
        phases=phases,
        stacks=tuple(stack for phase in phases for stack in phase.new_stacks),
        marks=tuple(mark for phase in phases for mark in phase.new_marks),
    )
