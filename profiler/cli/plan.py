"""`peakvram plan`: what a sweep comes to, before it is run."""

from __future__ import annotations

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.cli.job import Gpu  # noqa: TC001 - typer reads the annotations
from profiler.estimate.plan import plan_jobs
from profiler.execute.study import read_study
from profiler.report.terminal.output import data_output, notice, print_json_value, report_problems
from profiler.report.terminal.plan import plan_tree, show_plan

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
    jobs = plan_jobs(study)
    report_problems(study.store)
    for reason in study.reasons:
        notice(reason)
    if json:
        print_json_value(plan_tree(study, jobs))
    else:
        with data_output(pipe_width=_PIPE_WIDTH) as console:
            show_plan(console, study, jobs)
    return 0
