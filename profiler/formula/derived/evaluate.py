"""What a derived formula says of a batch: its events and their sizes, replayed by the allocator's rules."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise, product
from math import log
from typing import TYPE_CHECKING, NamedTuple

from profiler.allocator.caching_allocator import CachingAllocator
from profiler.allocator.settings import AllocatorSettings
from profiler.formula.derived.file import Seen
from profiler.formula.derived.flat import EMPTY_CACHE, FIRST_SIZE, FlatRun, replay_flat
from profiler.formula.derived.kinds import kind_of
from profiler.formula.derived.native import can_replay, replay_natively
from profiler.formula.derived.program import MAX_EVENTS, Free, SizedRequest, read_body
from profiler.formula.derived.sizes import SizeBand, Workspace, parse_size
from profiler.records.schema import CLOSING_PHASES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.formula.derived.file import DerivedFile, Phase
    from profiler.formula.derived.program import Symbol
    from profiler.formula.derived.sizes import Size
    from profiler.records.schema import PhasePlace

_MOST_EVENTS = 1 << 26
"""Of a run with all its steps: of the longest, a thousand steps of the largest models."""
_MOST_TRIED = 12
"""How many of the nearest runs are tried as corners of what lies between."""


class End(StrEnum):
    """Which end of what is not known exactly is taken."""

    VALUE = "value"
    LOW = "low"
    HIGH = "high"


class PhasePeak(NamedTuple):
    """What a phase of a replayed run comes to.

    Attributes:
        place: which phase it is.
        allocated_bytes: its allocated peak.
        terms: what is allocated then, by the part of the run.
    """

    place: PhasePlace
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
        failed_in: the phase of that.
        phases: in order, until memory ran out.
    """

    allocated_bytes: int
    reserved_bytes: int
    num_alloc_retries: int
    requested_bytes: int | None
    failed_in: PhasePlace | None
    phases: tuple[PhasePeak, ...]


def _is_within(one: Seen, other: Seen) -> bool:
    """Whether a batch has no more rows, and no longer ones, than another."""
    return one.batch_size <= other.batch_size and one.seq_len <= other.seq_len


def _distance(one: Seen, other: Seen) -> float:
    """How far apart two batches are, in powers of their sizes."""
    return abs(log(one.batch_size / other.batch_size)) + abs(log(one.seq_len / other.seq_len))


def _told_by_tokens(seen: Sequence[Seen], asked: Seen) -> int | None:
    """The regime of a batch whose number of tokens decides it; None where that is not known to.

    It decides where every change of all runs, in the order of their tokens, is one that two batch sizes show
    as rows get longer: were it the length, or the rows, those of one size would change among another's.
    """
    in_order = sorted(seen, key=lambda one: one.tokens)
    lengths = sorted(one.seq_len for one in seen)
    most_rows = max((one.batch_size for one in seen), default=0)
    is_inside = asked.batch_size <= most_rows and lengths[0] <= asked.seq_len <= lengths[-1]
    if not is_inside or not _is_told_by_tokens(in_order):
        return None
    below = [one.regime for one in in_order if one.tokens <= asked.tokens][-1:]
    above = [one.regime for one in in_order if one.tokens >= asked.tokens][:1]
    return below[0] if below and below == above else None


def _is_told_by_tokens(in_order: Sequence[Seen]) -> bool:
    """Whether every change in the order of tokens is one that two batch sizes show as rows get longer."""
    lines: dict[int, list[Seen]] = {}
    for one in in_order:
        lines.setdefault(one.batch_size, []).append(one)
    shown = Counter(change for line in lines.values() for change in _changes(line))
    return len(lines) > 1 and all(shown[change] > 1 for change in _changes(in_order))


def _changes(runs: Sequence[Seen]) -> list[tuple[int, int]]:
    """The regimes of neighbours that are of different ones."""
    return [(one.regime, other.regime) for one, other in pairwise(runs) if one.regime != other.regime]


class DerivedFormula:
    """A file's formula, its texts read as they are needed."""

    def __init__(self, file: DerivedFile) -> None:
        """Reads nothing of the events yet."""
        self.file = file
        self._bodies: dict[int, tuple[Symbol, ...]] = {}
        self._flat: dict[tuple[int, int | None], tuple[FlatRun, tuple[Phase, ...]]] = {}

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """What requests ask for.

        Raises:
            ValueError: the file's text is no size.
        """
        return tuple(parse_size(text) for text in self.file.sizes)

    def regimes_at(self, batch_size: int, seq_len: int) -> tuple[tuple[int, ...], bool]:
        """Which regimes may hold for a batch, the likeliest first, and whether the first is sure to.

        It is where a run of it is known with no more rows and no longer ones, and one with no fewer and no
        shorter ones, and between these two none of another regime: what makes a kernel or a mask another one
        is that some size exceeds another. Where all runs show that it is the number of tokens that does, it
        is between two with fewer and with more tokens. There is none where no run of such a kind of batch
        ended well.
        """
        asked = Seen(batch_size=batch_size, seq_len=seq_len, regime=0)
        seen = self._seen_like(asked)
        if (told := _told_by_tokens(seen, asked)) is not None:
            return (told,), True
        seen.sort(key=lambda one: _distance(one, asked))
        smaller = [one for one in seen if _is_within(one, asked)][:_MOST_TRIED]
        larger = [one for one in seen if _is_within(asked, one)][:_MOST_TRIED]
        for low, high in product(smaller, larger):
            if low.regime == high.regime and all(
                one.regime == low.regime for one in seen if _is_within(low, one) and _is_within(one, high)
            ):
                return (low.regime,), True
        nearest = [*seen[:1], *smaller[:1], *larger[:1]]
        return tuple(dict.fromkeys(one.regime for one in nearest)), False

    def _seen_like(self, asked: Seen) -> list[Seen]:
        """The runs of a batch's kind."""
        multiple = self.file.multiple
        kind = kind_of(asked.batch_size, asked.seq_len, multiple=multiple)
        return [
            one for one in self.file.seen if kind_of(one.batch_size, one.seq_len, multiple=multiple) == kind
        ]

    def is_exact(self, regime: int, batch_size: int, seq_len: int) -> bool:
        """Whether every size is known exactly there."""
        run, _ = self._flat_run(regime, None)
        sizes = (self.sizes[FIRST_SIZE - step] for step in set(run.steps) if step < EMPTY_CACHE)
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

        Raises:
            ValueError: the file makes no sense.
        """
        sizes = [self._bytes(size, batch_size, seq_len, workspace_bytes, end) for size in self.sizes]
        run, phases = self._flat_run(regime, num_steps)
        settings = settings or AllocatorSettings()
        if can_replay(run, sizes, settings):
            outcome = replay_natively(run, sizes, capacity_bytes=capacity_bytes)
        else:
            outcome = replay_flat(run, sizes, CachingAllocator(settings, capacity_bytes=capacity_bytes))
        has_failed = outcome.requested_bytes > 0
        peaks = [
            PhasePeak(phase.place, peak_bytes, self._terms(terms))
            for phase, peak_bytes, terms in zip(phases, outcome.peaks, outcome.terms, strict=False)
        ]
        return Replayed(
            allocated_bytes=max(outcome.peaks),
            reserved_bytes=outcome.reserved_peak_bytes,
            num_alloc_retries=outcome.num_alloc_retries,
            requested_bytes=outcome.requested_bytes or None,
            failed_in=peaks[-1].place if has_failed else None,
            phases=tuple(peaks),
        )

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        """The parts of a run that blocks belong to."""
        return tuple(dict.fromkeys(part for part, _ in self.file.owners))

    def _terms(self, terms: tuple[int, ...]) -> dict[str, int]:
        return {part: count for part, count in zip(self._parts, terms, strict=True) if count}

    @staticmethod
    def _bytes(size: Size, batch_size: int, seq_len: int, workspace_bytes: int, end: End) -> int:
        if isinstance(size, Workspace):
            return workspace_bytes
        band: SizeBand = size.at(batch_size, seq_len)
        return {End.VALUE: band.value, End.LOW: band.low, End.HIGH: band.high}[end]

    def _flat_run(self, regime: int, num_steps: int | None) -> tuple[FlatRun, tuple[Phase, ...]]:
        """A run with so many steps, event after event, and its phases; as many as the file has if None."""
        if (regime, num_steps) not in self._flat:
            phases = tuple(self._phases(regime, num_steps))
            self._flat[regime, num_steps] = self._flatten(phases), phases
        return self._flat[regime, num_steps]

    def _phases(self, number: int, num_steps: int | None) -> Iterator[Phase]:
        regime = self.file.regimes[number]
        num_events = 0
        for phase in regime.phases:
            num_events += len(self._body(phase.body))
            if num_events > MAX_EVENTS:
                raise ValueError(f"more than {MAX_EVENTS:,} events of one run")
        last = max((phase.step for phase in regime.phases if phase.step is not None), default=0)
        again = [phase for phase in regime.phases if phase.step == last]
        num_more = max(0, (num_steps or 0) - last - 1)
        if num_events + num_more * sum(len(self._body(phase.body)) for phase in again) > _MOST_EVENTS:
            raise ValueError(f"{num_steps:,} steps are more than {_MOST_EVENTS:,} events")
        closing = [phase for phase in regime.phases if phase.name in CLOSING_PHASES]
        for phase in regime.phases[: len(regime.phases) - len(closing)]:
            if phase.step is None or num_steps is None or phase.step < num_steps:
                yield phase
        for step in range(last + 1, num_steps or 0):
            yield from (phase.model_copy(update={"step": step}) for phase in again)
        yield from closing

    def _flatten(self, phases: Sequence[Phase]) -> FlatRun:
        steps, ends, parts = array("i"), array("i"), bytearray()
        part_numbers = {part: number for number, part in enumerate(self._parts)}
        part_of = [part_numbers[part] for part, _ in self.file.owners]
        num_sizes, num_owners = len(self.sizes), len(part_of)
        for phase in phases:
            for symbol in self._body(phase.body):
                match symbol:
                    case SizedRequest(size, owner):
                        if size >= num_sizes or owner >= num_owners:
                            raise ValueError("a request is of a size or an owner that is not there")
                        steps.append(FIRST_SIZE - size)
                        parts.append(part_of[owner])
                    case Free(back):
                        if back > len(parts):  # what is below 0 would be another event
                            raise ValueError("it frees what is not there")
                        steps.append(len(parts) - back)
                    case None:
                        steps.append(EMPTY_CACHE)
            ends.append(len(steps))
        return FlatRun(steps=steps, ends=ends, parts=bytes(parts), num_parts=len(self._parts))

    def _body(self, number: int) -> tuple[Symbol, ...]:
        if number not in self._bodies:
            self._bodies[number] = read_body(self.file.bodies[number])
        return self._bodies[number]
