"""What a sweep comes to before it is run, on a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from profiler.estimate.estimate import Estimate, Fits, room_text, single
from profiler.formula.derived.formula import DERIVED
from profiler.jobs.settings import Settings, method_label, settings_of, show_value, unusual, varying_keys
from profiler.report.base.estimate_tree import summary_tree
from profiler.report.base.text import UNKNOWN, left, literal, plain_table, right, titled, titled_table
from profiler.report.base.verdict import outcome_label, verdict_line
from profiler.report.terminal.estimate import fits_text, interval
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, Group

    from profiler.estimate.plan import PlannedJob
    from profiler.execute.study import Study
    from profiler.jobs.expansion import InvalidJob
    from profiler.jobs.job import JobSpec


_MAX_SHOWN = 5000
_WORDS = {
    Fits.YES: "fit",
    Fits.LIKELY: "likely",
    Fits.UNLIKELY: "unlikely",
    Fits.NO: "do not fit",
    None: "not estimated",
}
_ESTIMATE_COLUMNS = right("est. peak", "90 % interval", "est. device", "est. room")
"""Peak allocated and its interval; then what decides whether a job fits: all that it holds of the card, and
what of the card that leaves."""


def show_plan(console: Console, study: Study, jobs: Sequence[PlannedJob]) -> None:
    """Prints the jobs of a study, what they should take and which combinations are no job."""
    console.print(literal(study.sweep.name, "bold"))
    if study.sweep.description:
        console.print(literal(study.sweep.description), soft_wrap=True)
    console.print()
    console.print(plan_table(jobs[:_MAX_SHOWN]))
    if len(jobs) > _MAX_SHOWN:
        console.print(f"and {len(jobs) - _MAX_SHOWN} more jobs: --json has them all")
    if study.expansion.invalid:
        console.print()
        console.print(invalid_table(study.expansion.invalid))
    console.print()
    console.print(literal(estimates_summary(jobs)), soft_wrap=True)
    console.print(literal(_summary(study, jobs)), soft_wrap=True)
    for note in contradictions(jobs):
        console.print(literal(f"note: {note}"), soft_wrap=True)


def plan_tree(study: Study, jobs: Sequence[PlannedJob]) -> dict[str, object]:
    """A plan in plain data."""
    expansion = study.expansion
    return {
        "name": study.sweep.name,
        "directory": str(study.store.directory),
        "num_jobs": len(jobs),
        "num_stored": sum(job.record is not None for job in jobs),
        "num_excluded": expansion.num_excluded,
        "num_duplicates": expansion.num_duplicates,
        "jobs": [
            {
                "spec": job.spec.model_dump(mode="json"),
                "outcome": job.record.outcome.model_dump(mode="json") if job.record else None,
                "estimate": (
                    {"formula": job.estimate.formula.id, **summary_tree(job.estimate)}
                    if job.estimate
                    else None
                ),
                "is_contradicted": job.is_contradicted,
            }
            for job in jobs
        ],
        "invalid": [{"values": dict(point.values), "reason": point.reason} for point in expansion.invalid],
    }


def plan_table(jobs: Sequence[PlannedJob]) -> Group:
    """One row a job: the settings that tell it from the others, what it should take, and its state."""
    settings = [_settings(job.spec) for job in jobs]
    varying = varying_keys(settings)
    table = plain_table(left(*varying) | _ESTIMATE_COLUMNS | left("fits", "state"))
    for job, own in zip(jobs, settings, strict=True):
        table.add_row(
            *map(literal, [*(own.get(key, "") for key in varying), *_estimate_cells(job), _state(job)])
        )
    for column in table.columns:
        column.overflow = "fold"  # on a narrow terminal nothing is cut off
    common = [f"{key} {settings[0][key]}" for key in ("model", "method", "gpu") if key not in varying]
    told = [key for key in settings_of(jobs[0].spec) if key.startswith("method.")]
    common += unusual(settings_of(jobs[0].spec), besides=["model", "gpu", *told, *varying])
    return titled(f"Jobs, all with {', '.join(common)}" if common else "Jobs", table)


def _estimate_cells(job: PlannedJob) -> tuple[str, ...]:
    """What a job should take, and whether the card has room for it."""
    if not isinstance(job.estimate, Estimate):
        return (UNKNOWN,) * (len(_ESTIMATE_COLUMNS) + 1)
    corrected, verdict = job.estimate.corrected, job.estimate.verdict
    device = corrected.device_used
    return (
        format_bytes(single(corrected.allocated.value_bytes)),
        interval(corrected.allocated) or UNKNOWN,
        UNKNOWN if device is None else format_bytes(single(device.value_bytes)),
        room_text(verdict.room_bytes),
        str(verdict.fits),
    )


def _state(job: PlannedJob) -> str:
    if job.record is None:
        return "to run"
    stored = f"stored: {outcome_label(job.record.outcome)}"
    return f"{stored}, against the estimate" if job.is_contradicted else stored


def estimates_summary(jobs: Iterable[PlannedJob]) -> str:
    """How many jobs are estimated to fit, in one line."""
    estimates = [job.estimate if isinstance(job.estimate, Estimate) else None for job in jobs]
    fits = Counter(estimate.verdict.fits if estimate else None for estimate in estimates)
    parts = [f"{fits[answer]} {word}" for answer, word in _WORDS.items() if fits[answer]]
    num_derived = sum(estimate is not None and estimate.formula.id == DERIVED.id for estimate in estimates)
    derived = f"; {num_derived} of them by derived formulas" if num_derived else ""
    return f"estimated, nothing was run: {', '.join(parts)}{derived}"


def contradictions(jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """Where the estimate of a job that has run says otherwise than its record, and which of them counts."""
    settings = [_settings(job.spec) for job in jobs]
    varying = varying_keys(settings)
    for job, own in zip(jobs, settings, strict=True):
        if job.is_contradicted and job.record is not None and isinstance(job.estimate, Estimate):
            yield (
                f"{', '.join(f'{key} {own[key]}' for key in varying if key in own)}: its estimate missed, "
                f"the run counts. "
                f"Estimate: {fits_text(job.estimate.verdict)}. Run: {verdict_line(job.record)}"
            )


def _settings(spec: JobSpec) -> Settings:
    """A job's settings with its method in one."""
    settings = settings_of(spec)
    others = {key: value for key, value in settings.items() if not key.startswith("method.")}
    return {"model": others["model"], "method": method_label(settings), **others}


def invalid_table(invalid: Iterable[InvalidJob]) -> Group:
    """One row a combination that is no job, and why."""
    rows = (
        [", ".join(f"{key} {show_value(key, value)}" for key, value in job.values.items()), job.reason]
        for job in invalid
    )
    return titled_table("Combinations that are no job", left("combination", "why it is no job"), rows)


def _summary(study: Study, jobs: Sequence[PlannedJob]) -> str:
    expansion, num_stored = study.expansion, sum(job.record is not None for job in jobs)
    parts = [
        f"{len(jobs)} jobs: {num_stored} stored in {study.store.directory}, {len(jobs) - num_stored} to run"
    ]
    if expansion.num_excluded:
        parts.append(f"{expansion.num_excluded} excluded")
    if expansion.num_duplicates:
        parts.append(f"{expansion.num_duplicates} the same as another")
    if expansion.invalid:
        parts.append(f"{len(expansion.invalid)} that are no job")
    return "; ".join(parts)
