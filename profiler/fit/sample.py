"""Which records a fit may use, and for what."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.estimate.factors import FittedOn
from profiler.records.fingerprint import identity_of
from profiler.records.schema import OutcomeStatus
from profiler.records.store import RecordStore, record_file_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from profiler.records.schema import Record

MIN_MODELS = 3
"""Fewer whole models cannot be left out one by one with two left to fit on."""
MIN_RECORDS = 12
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that is no record, or a record that contradicts itself, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The records a fit is made of.

    Attributes:
        records: those of jobs that ran to their end, with every figure, one a job and fingerprint.
        out_of_memory: those of jobs that ran, and ran out of memory; their peaks are of an unfinished run.
        studies: names of the studies they are from.
        study_names: the one of each record, by its identity; none where all are of one.
        skipped: what is no record, and records whose figures contradict each other.
    """

    records: tuple[Record, ...]
    out_of_memory: tuple[Record, ...]
    studies: tuple[str, ...]
    study_names: Mapping[object, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()

    def study_of(self, record: Record) -> str:
        """The name of the study that a record is from; empty where all are of one."""
        return self.study_names.get(identity_of(record), "")

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The model of each of `records`."""
        return tuple(record.spec.model for record in self.records)

    @cached_property
    def cards(self) -> tuple[str, ...]:
        """The card of each of `records`."""
        return tuple(record.device.id for record in self.records if record.device is not None)

    @cached_property
    def is_free(self) -> tuple[bool, ...]:
        """Whether each of `records` tells what reserved memory has on top of allocated.

        Not where the allocator ran into the card's capacity and gave blocks back to try again, for it then
        holds less than it would have, nor under other settings than its own, which change that very figure.
        """
        return tuple(
            not record.spec.alloc_conf and not sum(phase.num_alloc_retries for phase in record.phases)
            for record in self.records
        )


def read_sample(directories: Sequence[Path], *, is_mix_allowed: bool = False) -> Sample:
    """The records of some studies, those that contradict themselves left out.

    Args:
        directories: the studies.
        is_mix_allowed: whether virtual and real records may stand side by side.

    Raises:
        ConfigError: if a study has no record, virtual and real ones are mixed, or there are too few.
    """
    newest: dict[tuple[str, str | None], Record] = {}
    study_names: dict[object, str] = {}
    unread: list[Skipped] = []
    for directory in directories:
        scan = RecordStore(directory).scan()
        if not scan.records:
            raise ConfigError(f"there is no record in {directory}", hint="`peakvram sweep` puts them there")
        found = {identity_of(stored.record): stored.record for stored in scan.records}
        newest |= found
        study_names |= dict.fromkeys(found, directory.resolve().name)
        unread += [Skipped(name=str(problem.path), reason=problem.reason) for problem in scan.problems]
    sample = sample_of(newest.values(), studies=[directory.resolve().name for directory in directories])
    check_sample(sample, is_mix_allowed=is_mix_allowed)
    return replace(sample, study_names=study_names, skipped=(*unread, *sample.skipped))


def sample_of(records: Iterable[Record], *, studies: Sequence[str]) -> Sample:
    """Sorts records by what they tell."""
    finished: list[Record] = []
    out_of_memory: list[Record] = []
    skipped: list[Skipped] = []
    for record in records:
        match record.outcome.status:
            case OutcomeStatus.OK if reason := _contradiction(record):
                skipped.append(Skipped(name=record_file_name(record), reason=reason))
            case OutcomeStatus.OK:
                finished.append(record)
            case OutcomeStatus.OOM if record.outcome.inferred_from is None:
                out_of_memory.append(record)
            case _:
                pass  # it was not run, or failed for another reason: it shows nothing of what the job takes
    return Sample(
        records=tuple(finished),
        out_of_memory=tuple(out_of_memory),
        studies=tuple(studies),
        skipped=tuple(skipped),
    )


def check_sample(sample: Sample, *, is_mix_allowed: bool) -> None:
    """Refuses records that no factors can be fitted to.

    Raises:
        ConfigError: if virtual and real records are mixed without being asked for, or there are too few.
    """
    kinds = _kinds(sample)
    if len(kinds) > 1 and not is_mix_allowed:
        raise ConfigError(
            "some records are of real cards and some of virtual ones", hint="fit them apart, or give --mix"
        )
    num_models = len(set(sample.models))
    if num_models < MIN_MODELS or len(sample.records) < MIN_RECORDS:
        raise ConfigError(
            f"too few records: {len(sample.records)} of finished jobs, of {num_models} models",
            hint=f"a fit takes at least {MIN_RECORDS}, of at least {MIN_MODELS} models",
        )


def describe_sample(sample: Sample) -> FittedOn:
    """What a factor file says of the records behind it."""
    identities = sorted(" ".join(map(str, identity_of(record))) for record in sample.records)
    return FittedOn(
        device_kinds=_kinds(sample),
        studies=sample.studies,
        num_records=len(sample.records),
        keys_sha256=hashlib.sha256("\n".join(identities).encode()).hexdigest(),
        models=tuple(sorted(set(sample.models))),
        cards=tuple(sorted(set(sample.cards))),
        versions={name: tuple(sorted(set(_versions(sample, name)))) for name in _LIBRARIES},
    )


def _kinds(sample: Sample) -> tuple[str, ...]:
    return tuple(sorted({record.device.kind for record in sample.records if record.device}))


def _versions(sample: Sample, library: str) -> Iterator[str]:
    for record in sample.records:
        version = record.environment and getattr(record.environment, library)
        if version:
            yield version


def _contradiction(record: Record) -> str:
    """Why the figures of a finished job cannot all be true; empty where they can."""
    peak, parameters = record.peak, record.parameters
    if peak is None or record.device is None:
        return "it has no peak, or tells of no card"
    if peak.reserved_bytes < peak.allocated_bytes:
        return f"it says that {peak.allocated_bytes} bytes were allocated of {peak.reserved_bytes} reserved"
    if parameters is not None and peak.allocated_bytes * 2 < parameters.total:  # 4 bits each at the least
        return f"{peak.allocated_bytes} bytes cannot hold {parameters.total} parameters: is it another unit?"
    used = peak.device_used_bytes
    if used is not None and used < peak.reserved_bytes:
        return f"it says that the card had {used} bytes in use, less than the {peak.reserved_bytes} reserved"
    return ""
