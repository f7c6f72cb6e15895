"""What a derived formula says of a batch: its events and their sizes, replayed by the allocator's rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from profiler.allocator.caching_allocator import CachingAllocator
from profiler.allocator.device_memory import AllocationFailedError
from profiler.formula.derived.program import Free, Request, read_body
from profiler.formula.derived.sizes import Band, Workspace, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.allocator.blocks import MemoryBlock
    from profiler.allocator.settings import AllocatorSettings
    from profiler.formula.derived.file import DerivedFile
    from profiler.formula.derived.sizes import Size
    from profiler.records.schema import PhaseName

_EMPTY_CACHE = -1
_FIRST_SIZE = -2


class End(StrEnum):
    """Which end of what is not known exactly is taken."""

    VALUE = "value"
    LOW = "low"
    HIGH = "high"


class PhasePeak(NamedTuple):
    """What a phase of a replayed run comes to.

    Attributes:
        name: the phase.
        step: its step, if it has one.
        allocated_bytes: its allocated peak.
        terms: what is allocated then, by the part of the run.
    """

    name: PhaseName
    step: int | None
    allocated_bytes: int
    terms: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A run that never happened.

    Attributes:
        allocated_bytes: the peak of allocated memory; where memory ran out, until then.
        reserved_bytes: the peak of reserved memory.
        num_alloc_retries: how often all that was cached had to be given back for a request.
        requested_bytes: what the request asked for that failed; None where none did.
        failed_in: the phase of that, and its step.
        phases: in order, until memory ran out.
    """

    allocated_bytes: int
    reserved_bytes: int
    num_alloc_retries: int
    requested_bytes: int | None
    failed_in: tuple[PhaseName, int | None] | None
    phases: tuple[PhasePeak, ...]


class _Body(NamedTuple):
    """A body, ready to be replayed.

    Attributes:
        steps: of every event how many requests before the one was whose block is freed, `_EMPTY_CACHE`, or
            `_FIRST_SIZE` less the number of the size that is asked for.
        owners: by request.
    """

    steps: tuple[int, ...]
    owners: tuple[int, ...]


class DerivedFormula:
    """A file's formula, its texts read as they are needed."""

    def __init__(self, file: DerivedFile) -> None:
        """Reads nothing of the events yet."""
        self.file = file
        self._bodies: dict[int, _Body] = {}

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """What requests ask for.

        Raises:
            ValueError: the file's text is no size.
        """
        return tuple(parse_size(text) for text in self.file.sizes)

    def regimes_at(self, batch_size: int, seq_len: int) -> tuple[tuple[int, ...], bool]:
        """Which regimes may hold for a batch, and whether it lies where one was seen to."""
        tokens, kind = batch_size * seq_len, "one" if batch_size == 1 else "more"
        spans = sorted((span for span in self.file.spans if span.batch == kind), key=lambda span: span.first)
        inside = [span for span in spans if span.first <= tokens <= span.last]
        if inside:
            regimes = tuple(dict.fromkeys(span.regime for span in inside))
            return regimes, len(regimes) == 1
        below = [span for span in spans if span.last < tokens][-1:]
        above = [span for span in spans if span.first > tokens][:1]
        return tuple(dict.fromkeys(span.regime for span in (*below, *above))), False

    def is_exact(self, regime: int, batch_size: int, seq_len: int) -> bool:
        """Whether every size is known exactly there."""
        used = {
            -step + _FIRST_SIZE
            for _, body in self._run(regime, None)
            for step in body.steps
            if step < _EMPTY_CACHE
        }
        sizes = (self.sizes[number] for number in used)
        bands = (size.at(batch_size, seq_len) for size in sizes if not isinstance(size, Workspace))
        return all(band.low == band.high for band in bands)

    def replay(  # noqa: PLR0913 - a run, and what it runs on
        self,
        regime: int,
        batch_size: int,
        seq_len: int,
        *,
        workspace_bytes: int,
        num_steps: int,
        settings: AllocatorSettings | None = None,
        capacity_bytes: int | None = None,
        end: End = End.VALUE,
        has_terms: bool = True,
    ) -> Replayed:
        """A run that a regime tells of.

        Args:
            regime: its number.
            batch_size: rows.
            seq_len: tokens of a row.
            workspace_bytes: what cuBLAS takes for a thread on the card.
            num_steps: training steps; those beyond the ones the file has are like its last one.
            settings: the allocator's; torch's defaults if None.
            capacity_bytes: what the card has free for the tensors of the process; None for no end.
            end: which end of sizes that are not known exactly is taken.
            has_terms: whether to tell whose the bytes at each phase's peak are.
        """
        sizes = [self._bytes(size, batch_size, seq_len, workspace_bytes, end) for size in self.sizes]
        run = _Run(sizes, CachingAllocator(settings, capacity_bytes=capacity_bytes))
        phases: list[PhasePeak] = []
        requested_bytes = failed_in = phase = None
        try:
            for phase, body in self._run(regime, num_steps):
                peak_bytes = run.follow(body)
                terms = self._terms(run) if has_terms else {}
                phases.append(PhasePeak(phase[0], phase[1], peak_bytes, terms))
        except AllocationFailedError as error:
            requested_bytes, failed_in = error.requested_bytes, phase
        return Replayed(
            allocated_bytes=run.peak_bytes,
            reserved_bytes=run.allocator.reserved_peak_bytes,
            num_alloc_retries=run.allocator.num_alloc_retries,
            requested_bytes=requested_bytes,
            failed_in=failed_in,
            phases=tuple(phases),
        )

    @staticmethod
    def _bytes(size: Size, batch_size: int, seq_len: int, workspace_bytes: int, end: End) -> int:
        if isinstance(size, Workspace):
            return workspace_bytes
        band: Band = size.at(batch_size, seq_len)
        return {End.VALUE: band.value, End.LOW: band.low, End.HIGH: band.high}[end]

    def _run(
        self, number: int, num_steps: int | None
    ) -> Iterator[tuple[tuple[PhaseName, int | None], _Body]]:
        """The phases of a run with so many steps; of as many as the file has if None."""
        regime = self.file.regimes[number]
        last = max((phase.step for phase in regime.phases if phase.step is not None), default=0)
        again = [phase for phase in regime.phases if phase.step == last]
        for phase in regime.phases:
            if phase.step is None or num_steps is None or phase.step < num_steps:
                yield (phase.name, phase.step), self._body(phase.body)
        for step in range(last + 1, num_steps or 0):
            yield from (((phase.name, step), self._body(phase.body)) for phase in again)

    def _body(self, number: int) -> _Body:
        if number not in self._bodies:
            steps, owners = [], []
            for symbol in read_body(self.file.bodies[number]):
                match symbol:
                    case Request(size, owner):
                        steps.append(_FIRST_SIZE - size)
                        owners.append(owner)
                    case Free(back):
                        steps.append(back)
                    case None:
                        steps.append(_EMPTY_CACHE)
            self._bodies[number] = _Body(tuple(steps), tuple(owners))
        return self._bodies[number]

    def _terms(self, run: _Run) -> dict[str, int]:
        """What is allocated at the peak of the phase that was followed last, by the part of the run."""
        terms: dict[str, int] = {}
        for number in run.live_at_peak():
            part = self.file.owners[run.owners[number]][0]
            terms[part] = terms.get(part, 0) + run.block_bytes[number]
        return terms


class _Run:
    """A replay under way.

    Attributes:
        allocator: as it stands.
        peak_bytes: the allocated peak so far.
        block_bytes: of each request's block.
        owners: of each request, the number of its owner.
    """

    def __init__(self, sizes: Sequence[int], allocator: CachingAllocator) -> None:
        self.allocator = allocator
        self.peak_bytes = 0
        self.block_bytes: list[int] = []
        self.owners: list[int] = []
        self._sizes = sizes
        self._blocks: dict[int, MemoryBlock] = {}
        self._before: tuple[int, ...] = ()
        self._body: _Body = _Body((), ())

    def follow(self, body: _Body) -> int:
        """The allocated peak of one phase.

        Raises:
            AllocationFailedError: memory ran out.
        """
        allocator, sizes, blocks, block_bytes = self.allocator, self._sizes, self._blocks, self.block_bytes
        malloc, free = allocator.malloc, allocator.free
        self._before, self._body = tuple(blocks), body
        self.owners += body.owners
        number = len(block_bytes)
        allocator.allocated_peak_bytes = allocator.allocated_bytes
        try:
            for step in body.steps:
                if step > 0:
                    free(blocks.pop(number - step))
                elif step < _EMPTY_CACHE:
                    block = blocks[number] = malloc(sizes[_FIRST_SIZE - step])
                    block_bytes.append(block.size_bytes)
                    number += 1
                else:
                    allocator.empty_cache()
        finally:
            self.peak_bytes = max(self.peak_bytes, allocator.allocated_peak_bytes)
        return allocator.allocated_peak_bytes

    def live_at_peak(self) -> Iterator[int]:
        """The requests whose blocks are allocated at the peak of the phase that was followed last."""
        block_bytes = self.block_bytes
        number = first = len(block_bytes) - len(self._body.owners)
        changes, freed = [], []
        for step in self._body.steps:
            if step > 0:
                freed.append(number - step)
                changes.append(-block_bytes[number - step])
            elif step < _EMPTY_CACHE:
                changes.append(block_bytes[number])
                number += 1
            else:
                changes.append(0)
        totals = list(accumulate(changes, initial=0))
        peak = totals.index(max(totals))
        num_made = sum(step < _EMPTY_CACHE for step in self._body.steps[:peak])
        gone = set(freed[: sum(step > 0 for step in self._body.steps[:peak])])
        yield from (one for one in (*self._before, *range(first, first + num_made)) if one not in gone)
