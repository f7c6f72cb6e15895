"""The folder that a comparison leaves: fit to be contributed, the two cards' records never mixed.

    real/records      real/histories       of the real card
    virtual/records   virtual/histories    of its virtual twin
    differences.json  README.md            how they compare

It says nothing of the machine but its card and software: no host name unless asked for, no path, no UUID.
"""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, Literal

from profiler import __version__
from profiler.execute.prepare import describe_device
from profiler.files import write_file
from profiler.jobs.identity import job_key
from profiler.records.history import pack_history
from profiler.records.schema import Device, Environment, Record
from profiler.records.store import RecordStore, short_model
from profiler.values import Value
from profiler.verify.parting import JobComparison
from profiler.verify.twin import CatalogueDifference

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.jobs.job import JobSpec
    from profiler.verify.run import TwinCards, VerifiedJob

_PATH = re.compile(r"(?<![\w.:/])~?/(?:[^\s/:'\"(),]+/)+")
_HIDDEN = ".../"


class TwinComparison(Value):
    """`differences.json`: how a real card and its virtual twin compare.

    Attributes:
        card: the real card.
        twin: the virtual one; its `reason` says why it is the twin.
        catalogue_id: the card of the catalogue that the twin is, if it is one.
        catalogue_figures: what the catalogue says otherwise than the card; the twin goes by the card.
        environment: of the real card's jobs.
        jobs: one a job, in their order.
    """

    format_version: Literal[1] = 1
    peakvram: str
    card: Device
    twin: Device
    catalogue_id: str | None
    catalogue_figures: tuple[CatalogueDifference, ...]
    environment: Environment | None = None
    jobs: tuple[JobComparison, ...] = ()


class ComparisonFolder:
    """Writes a comparison as it goes on: what is there is complete, however it ends."""

    def __init__(self, directory: Path, cards: TwinCards, *, with_hostname: bool = False) -> None:
        """Writes nothing yet.

        Args:
            directory: the folder, made with the first job.
            cards: the two.
            with_hostname: name this machine in the records.
        """
        self.directory = directory
        self._hostname = platform.node() if with_hostname else None
        self.comparison = TwinComparison(
            peakvram=__version__,
            card=_describe_card(cards),
            twin=describe_device(cards.twin.choice),
            catalogue_id=cards.twin.catalogue_id,
            catalogue_figures=cards.twin.differences,
        )

    def add(self, job: VerifiedJob) -> JobComparison:
        """Write both records and histories of a job, and `differences.json` anew; how the job compares.

        Raises:
            EnvironmentUnfitError: a file cannot be written.
        """
        for side, run in job.runs.items():
            record = contributed(run.record, hostname=self._hostname)
            path = RecordStore(self.directory / side).put(record)
            if side == "real":
                self.comparison = self.comparison.model_copy(update={"environment": record.environment})
            if run.history is not None:
                place = self.directory / side / "histories" / f"{path.stem}.jsonl.gz"
                write_file(place, pack_history(run.history))
        shown = _contributed_comparison(job.comparison)
        self.comparison = self.comparison.model_copy(update={"jobs": (*self.comparison.jobs, shown)})
        write_file(
            self.directory / "differences.json",
            self.comparison.model_dump_json(indent=2) + "\n",
        )
        return shown


def contributed(record: Record, *, hostname: str | None = None) -> Record:
    """A record without what tells of the machine: paths, the card's UUID, and the host but for `hostname`."""
    spec = _without_path(record.spec)
    changes: dict[str, object] = {"spec": spec, "key": job_key(spec)}
    if record.device is not None:
        changes["device"] = record.device.model_copy(update={"uuid": None})
    if record.environment is not None:
        changes["environment"] = record.environment.model_copy(update={"hostname": hostname})
    if record.outcome.message is not None:
        told = without_paths(record.outcome.message)
        changes["outcome"] = record.outcome.model_copy(update={"message": told})
    return record.model_copy(update=changes)


def without_paths(text: str) -> str:
    """A text in which only the last part of every path is left."""
    return _PATH.sub(_HIDDEN, text)


def _without_path(spec: JobSpec) -> JobSpec:
    return spec.model_copy(update={"model": short_model(spec.model)})


def _contributed_comparison(comparison: JobComparison) -> JobComparison:
    changes: dict[str, object] = {
        "spec": _without_path(comparison.spec),
        "reason": without_paths(comparison.reason),
    }
    for side in ("real_outcome", "virtual_outcome"):
        outcome = getattr(comparison, side)
        if outcome is not None and outcome.message is not None:
            changes[side] = outcome.model_copy(update={"message": without_paths(outcome.message)})
    return comparison.model_copy(update=changes)


def _describe_card(cards: TwinCards) -> Device:
    """The real card, with what CUDA said of it; its twin has the same figures."""
    twin = describe_device(cards.twin.choice)
    told = {"total_bytes": twin.total_bytes, "num_sms": twin.num_sms, "uuid": None}
    return describe_device(cards.real).model_copy(update=told)
