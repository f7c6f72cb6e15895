"""What changed between two studies, or two environments of one: the same jobs, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from profiler.errors import ConfigError
from profiler.jobs.identity import job_key
from profiler.records.fingerprint import fingerprint_of
from profiler.records.schema import OutcomeStatus
from profiler.records.slim import Slimmer
from profiler.records.store import RecordStore

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from fractions import Fraction

    from profiler.records.schema import Record
    from profiler.records.store import Unreadable

FigureName: TypeAlias = Literal["allocated", "reserved"]
FIGURES: Final[tuple[FigureName, ...]] = ("allocated", "reserved")
ENVIRONMENT: Final = (
    *("torch", "cuda", "transformers", "peft", "bitsandbytes", "accelerate", "driver", "alloc_conf"),
    "peakvram",
)
"""What tells two environments apart, by its name in a record."""
_CARD: Final = "gpu"
_NONE: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two that are compared.

    Attributes:
        name: as it was asked for.
        records: one a job, without phases and components.
        problems: files of its study that are no records.
    """

    name: str
    records: tuple[Record, ...]
    problems: tuple[Unreadable, ...] = ()

    def values(self) -> dict[str, str]:
        """The card and the versions of its records, several with commas; what none tells is left out."""
        by_name = {
            name: sorted({_value(record, name) or _NONE for record in self.records}) for name in _NAMES
        }
        return {name: ", ".join(values) for name, values in by_name.items() if values != [_NONE]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same job on both sides."""

    before: Record
    after: Record

    @property
    def has_other_outcome(self) -> bool:
        """Whether it ended otherwise; how it was known that it runs out of memory is the same outcome."""
        return self.before.outcome.status is not self.after.outcome.status

    def sizes(self, figure: FigureName) -> tuple[int, int] | None:
        """The peaks of a figure in bytes; None unless both jobs ran to their end."""
        if {self.before.outcome.status, self.after.outcome.status} != {OutcomeStatus.OK}:
            return None
        assert self.before.peak is not None, "a finished job has a peak"
        assert self.after.peak is not None, "a finished job has a peak"
        name = f"{figure}_bytes"
        return getattr(self.before.peak, name), getattr(self.after.peak, name)

    def change(self, figure: FigureName) -> float | None:
        """How much a figure grew, as a share of what it was; None unless both jobs ran to their end."""
        sizes = self.sizes(figure)
        return None if sizes is None or not sizes[0] else sizes[1] / sizes[0] - 1

    @property
    def is_same(self) -> bool:
        """Whether neither the outcome nor any figure changed by a byte."""
        return not self.has_other_outcome and not any(map(self.change, FIGURES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two sides.

    Attributes:
        before: the first.
        after: the second.
        pairs: the jobs that both have.
        missing: records of jobs that only the first has.
        new: records of jobs that only the second has.
    """

    before: Side
    after: Side
    pairs: tuple[Pair, ...]
    missing: tuple[Record, ...]
    new: tuple[Record, ...]

    @property
    def changed(self) -> tuple[Pair, ...]:
        """Pairs that differ: jobs that no longer run first, other outcomes next, then the larger change."""
        return tuple(sorted((pair for pair in self.pairs if not pair.is_same), key=_by_change, reverse=True))

    def over(self, limit: Fraction, figure: FigureName) -> tuple[Pair, ...]:
        """Pairs that ended otherwise, or whose figure grew or shrank by more than a share."""
        return tuple(
            pair for pair in self.pairs if pair.has_other_outcome or _is_over(pair.sizes(figure), limit)
        )

    def environment(self) -> dict[str, tuple[str, str]]:
        """The card and the versions that differ, before and after."""
        before, after = self.before.values(), self.after.values()
        names = [name for name in _NAMES if before.get(name, _NONE) != after.get(name, _NONE)]
        return {name: (before.get(name, _NONE), after.get(name, _NONE)) for name in names}


_NAMES: Final = (_CARD, *ENVIRONMENT)


def read_sides(before: str, after: str) -> tuple[Side, Side]:
    """Reads both sides, each as `read_side` does; what they share is in memory once."""
    slimmer = Slimmer()
    return read_side(before, slimmer=slimmer), read_side(after, slimmer=slimmer)


def read_side(text: str, *, slimmer: Slimmer | None = None) -> Side:
    """Reads one side: a study, or `STUDY@WHICH` for one of its environments.

    `WHICH` is the start of a fingerprint, or a card or version such as `gpu=rtx-4090` and `torch=2.8`.

    Args:
        text: the side.
        slimmer: what records share with others; the records of a side are without their phases.

    Raises:
        ConfigError: if there is no such record.
    """
    directory, which = _parse(text)
    store, slimmer = RecordStore(directory), slimmer or Slimmer()
    records = [slimmer.slim(stored.record, has_components=False) for stored in store.read()]
    if not records:
        raise ConfigError(f"there is no record in {directory}", hint="`peakvram sweep` puts them there")
    chosen = [record for record in records if _is_chosen(record, which)]
    if not chosen:
        raise ConfigError(f"no record of {directory} is of {which!r}", hint=_environments(records))
    return Side(name=text, records=tuple(chosen), problems=store.problems())


def compare_sides(before: Side, after: Side, *, is_card_ignored: bool = False) -> Comparison:
    """Puts the same jobs side by side.

    Args:
        before: the first side.
        after: the second.
        is_card_ignored: whether jobs that differ in their card alone are the same.

    Raises:
        ConfigError: if a side has several records of one job, or no job is on both sides.
    """
    first, second = (_by_job(side, is_card_ignored=is_card_ignored) for side in (before, after))
    shared = [job for job in first if job in second]
    if not shared:
        other = "" if is_card_ignored else "--any-card compares jobs that differ in their card alone"
        raise ConfigError(f"no job is in both {before.name} and {after.name}", hint=other)
    return Comparison(
        before=before,
        after=after,
        pairs=tuple(Pair(before=first[job], after=second[job]) for job in shared),
        missing=tuple(record for job, record in first.items() if job not in second),
        new=tuple(record for job, record in second.items() if job not in first),
    )


def _is_over(sizes: tuple[int, int] | None, limit: Fraction) -> bool:
    """Whether two sizes differ by more than a share of the first; exactly, for 1 % is not over 1 %."""
    return sizes is not None and abs(sizes[1] - sizes[0]) > limit * sizes[0]


def _parse(text: str) -> tuple[Path, str]:
    if Path(text).is_dir() or "@" not in text:
        return Path(text), ""
    directory, _, which = text.rpartition("@")
    return Path(directory), which


def _is_chosen(record: Record, which: str) -> bool:
    name, equals, value = which.partition("=")
    if not equals:
        return (fingerprint_of(record) or "").startswith(which)
    if name not in _NAMES:
        raise ConfigError(f"no environment has a {name!r}", hint=f"there are {', '.join(_NAMES)}")
    own = _value(record, name) or _NONE
    return own == value or own.startswith((f"{value}.", f"{value}+"))


def _value(record: Record, name: str) -> str | None:
    if name == _CARD:
        return record.device.id if record.device else None
    value: str | None = getattr(record.environment, name, None)
    return value


def _by_job(side: Side, *, is_card_ignored: bool) -> Mapping[str, Record]:
    by_job: dict[str, Record] = {}
    for record in side.records:
        job = _job(record) if is_card_ignored else record.key
        if job in by_job:
            several = [by_job[job], record]
            raise ConfigError(f"{side.name} has several records of one job", hint=_environments(several))
        by_job[job] = record
    return by_job


def _job(record: Record) -> str:
    return job_key(record.spec.model_copy(update={"gpu": "any", "gpu_memory_bytes": None}))


def _environments(records: Sequence[Record]) -> str:
    """How to name each environment among some records: its fingerprint, and what tells it from the others."""
    firsts: dict[str, Record] = {}
    for record in records:
        firsts.setdefault(fingerprint_of(record) or "", record)
    telling = _telling(firsts.values())
    described = [
        " ".join([fingerprint, *(f"{name}={_value(record, name) or _NONE}" for name in telling)])
        for fingerprint, record in firsts.items()
        if fingerprint
    ]
    return f"name one as DIR@WHICH: {'; '.join(described[:5])}"


def _telling(records: Collection[Record]) -> list[str]:
    rows = [[_value(record, name) for name in _NAMES] for record in records]
    return [
        name for name, values in zip(_NAMES, zip(*rows, strict=True), strict=True) if len(set(values)) > 1
    ]


def _by_change(pair: Pair) -> tuple[bool, bool, float]:
    no_longer_runs = pair.has_other_outcome and pair.before.outcome.status is OutcomeStatus.OK
    return no_longer_runs, pair.has_other_outcome, max(abs(pair.change(figure) or 0) for figure in FIGURES)
