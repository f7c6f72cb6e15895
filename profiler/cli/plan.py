"""`peakvram plan`: what a sweep comes to, before it is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.cli.job import Gpu  # noqa: TC001
from profiler.cli.study import read_study, report_problems
from profiler.report.terminal.output import data_output, notice, print_json_value

if TYPE_CHECKING:
    from profiler.cli.study import Study
    from profiler.report.terminal.plan import PlannedJob

_PIPE_WIDTH = 1000  # a job's settings in one line each, whatever varies


def plan(
    *,
    file: o.SweepFile,
    gpu: Gpu = None,
    set_: o.SweepSet = None,
    out: o.SweepOut = None,
    json: o.Json = False,
) -> int:
    """Show the jobs of a sweep: what each should take, which are stored already and which cannot be.

    Nothing is run; what a job should take is an estimate, as `peakvram estimate` gives it.

    \b
    peakvram plan smoke
    peakvram plan my-sweep.yaml --gpu real --set seq_len=[512,1024]

    Exit codes: 0 done, 2 usage or configuration, 3 unfit environment.
    """  # noqa: D301 - \b keeps the examples' lines apart
    study = read_study(file, out=out, gpu=gpu, settings=set_ or [])
    jobs = _planned(study)
    report_problems(study.store)
    if study.reason:
        notice(study.reason)
    if json:
        print_json_value(_as_json(study, jobs))
    else:
        _show(study, jobs)
    return 0


def _planned(study: Study) -> list[PlannedJob]:
    from profiler.estimate.estimate import DEFAULT_FORMULA, estimate_jobs  # noqa: PLC0415
    from profiler.estimate.factors import default_factors  # noqa: PLC0415
    from profiler.execute.pending import pending_jobs  # noqa: PLC0415 - `plan --help` needs none of it
    from profiler.formula.catalogue import find_formula  # noqa: PLC0415
    from profiler.report.terminal.plan import PlannedJob  # noqa: PLC0415

    pending = pending_jobs(study.jobs, study.store)
    jobs = [*((record.spec, record) for record in pending.stored), *((spec, None) for spec in pending.todo)]
    estimates = estimate_jobs(
        [spec for spec, _ in jobs], formula=find_formula(DEFAULT_FORMULA), factors=default_factors()
    )
    return [
        PlannedJob(spec=spec, record=record, estimate=estimate)
        for (spec, record), estimate in zip(jobs, estimates, strict=True)
    ]


def _show(study: Study, jobs: list[PlannedJob]) -> None:
    from profiler.report.base.text import literal  # noqa: PLC0415
    from profiler.report.terminal.plan import ESTIMATES, STATE, estimates_summary, invalid_table, plan_table  # noqa: PLC0415 - not for --help

    with data_output(pipe_width=_PIPE_WIDTH) as console:
        console.print(literal(study.sweep.name, "bold"))
        if study.sweep.description:
            console.print(literal(study.sweep.description), soft_wrap=True)
        console.print()
        console.print(plan_table(jobs, columns=(*ESTIMATES, STATE)))
        if study.expansion.invalid:
            console.print()
            console.print(invalid_table(study.expansion.invalid))
        console.print()
        console.print(literal(estimates_summary(jobs)), soft_wrap=True)
        console.print(literal(_summary(study, jobs)), soft_wrap=True)


def _summary(study: Study, jobs: list[PlannedJob]) -> str:
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


def _as_json(study: Study, jobs: list[PlannedJob]) -> dict[str, object]:
    from profiler.report.base.estimate_tree import summary_tree  # noqa: PLC0415 - not for --help

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
                "estimate": summary_tree(job.estimate) if job.estimate else None,
            }
            for job in jobs
        ],
        "invalid": [{"values": dict(point.values), "reason": point.reason} for point in expansion.invalid],
    }
