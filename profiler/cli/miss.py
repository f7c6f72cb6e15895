"""What is said where a run and the estimate of one job say otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.cli.options import ADHOC
from profiler.errors import PeakvramError
from profiler.estimate.best import best_estimate
from profiler.estimate.card import card_of
from profiler.estimate.estimate import Estimate
from profiler.estimate.factors import default_factors
from profiler.formula.configs import config_of
from profiler.hardware.catalogue import load_catalogue
from profiler.jobs.identity import job_key
from profiler.records.schema import OutcomeStatus
from profiler.records.store import read_record
from profiler.report.terminal.estimate import miss_text
from profiler.report.terminal.output import notice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.records.schema import Record


def tell_miss_of_run(record: Record) -> None:
    """Says on stderr where the shipped estimate of a job that has run missed; nothing where there is none.

    Nothing is fetched for it: what has run has its config here.
    """
    if record.outcome.status not in (OutcomeStatus.OK, OutcomeStatus.OOM):
        return
    spec = record.spec
    try:
        if config_of(spec.model, weights=spec.weights, revision=spec.revision, may_fetch=False) is None:
            return
        estimated = best_estimate(spec, factors=default_factors(), card=card_of(spec))
    except PeakvramError:  # no formula knows the model's shapes: that is no contradiction
        return
    if isinstance(estimated, Estimate):
        _tell(estimated, record)


def tell_miss_of_estimate(estimate: Estimate) -> None:
    """Says on stderr which runs of the job, of those that `peakvram run` has kept here, say otherwise."""
    for record in _kept_runs(estimate):
        _tell(estimate, record)


def _tell(estimate: Estimate, record: Record) -> None:
    if (text := miss_text(estimate, record)) is not None:
        notice(text)


def _kept_runs(estimate: Estimate) -> Iterator[Record]:
    spec = estimate.spec
    if spec.gpu == "auto":
        name = estimate.card.id if estimate.card.id in load_catalogue() else "real"
        spec = spec.model_copy(update={"gpu": name})
    for path in sorted((ADHOC / "records").glob(f"*--{job_key(spec)}--*.json")):
        try:
            yield read_record(path)
        except PeakvramError:  # whoever reads the study is told of it
            continue
