"""Times whole commands from a cold start, and counts the estimates of a table that a second is enough for.

Runs are told as ratios to importing torch, transformers, peft and bitsandbytes, an estimate as a ratio to
importing torch alone.
Seconds differ between machines, and with what else they do; ratios of commands that take turns differ little.
The host memory is the largest process's peak (the worker's), read from the kernel.

With --estimate: the estimates alone.

With --exec: a training script under `exec` against the same script on the same virtual card, left alone: what
following it costs, of the whole command and of its training steps.

With --sweep: a sweep of 210 jobs as one command, against one cold process a job, told from three of its jobs;
its host memory is what all its processes hold at once (the sum of their PSS, sampled).

With --study: a study of 100,000 records planned, exported, compared and reported, each in a process of its
own, and jobs looked up in it.

With --intervals: 1,000 random jobs, each run, and how often its estimate's interval holds what the run gave.

With --derived: formulas derived for 500 random jobs (or --count), each compared with 10 runs at batches drawn
at random. What is in the file of --out is not done again; --largest leaves out models with more parameters.

With --classes: of every class of causal language models in transformers a small model, whose derived formula
is compared with runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.bench import cases
from profiler.bench.classes import bench_classes
from profiler.bench.derived import MAX_PARAMETERS, NUM_KINDS, bench_derived
from profiler.bench.intervals import bench_intervals
from profiler.bench.study import bench_study

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SWITCHES = {
    "--json": "print JSON",
    "--estimate": "time estimates alone",
    "--exec": "time a followed script instead",
    "--sweep": "time a sweep instead",
    "--study": "time what reads a very large study instead",
    "--intervals": "count how often intervals hold instead",
    "--derived": "count how often derived formulas are equal to runs instead",
    "--classes": "see which classes of transformers are estimated as well as they run instead",
}


def main() -> int:
    """Run the cases in turn, print a line for each, and fail if one costs too much or is too slow."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each case; the median counts (default 3)"
    )
    parser.add_argument("--count", type=int, default=NUM_KINDS, help="jobs of --derived (default 500)")
    parser.add_argument(
        "--largest", type=int, default=MAX_PARAMETERS, help="parameters of --derived's models"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --derived's jobs and batches (default 0)")
    parser.add_argument("--out", type=Path, help="where --derived keeps what comes of each job")
    for flag, text in _SWITCHES.items():
        parser.add_argument(flag, action="store_true", help=text)
    options = parser.parse_args()
    if (bench := _chosen(options)) is not None:
        result = bench()
        text, holds = show_result(result), result["holds"]
    else:
        rows = cases.bench_commands(cases.ESTIMATES, repeat=options.repeat)
        rows += [] if options.estimate else cases.bench_commands(cases.RUNS, repeat=options.repeat)
        table = cases.bench_table(repeat=options.repeat)
        result = {"cases": rows, "table": table}
        text, holds = show_cases(rows) + show_result(table), all(row["holds"] for row in (*rows, table))
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else text)
    return 0 if holds else 1


def _chosen(options: argparse.Namespace) -> Callable[[], dict[str, object]] | None:
    """What is benched instead of the commands, if something is."""
    benches: dict[str, Callable[[], dict[str, object]]] = {
        "sweep": cases.bench_sweep,
        "exec": partial(cases.bench_script, repeat=options.repeat),
        "study": bench_study,
        "intervals": partial(bench_intervals, num_jobs=1000),
        "derived": partial(
            bench_derived,
            seed=options.seed,
            num_kinds=options.count,
            most_parameters=options.largest,
            path=options.out,
        ),
        "classes": bench_classes,
    }
    return next((bench for name, bench in benches.items() if getattr(options, name)), None)


def show_cases(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a case: seconds, ratio and host memory, each with what is allowed."""
    lines = [f"{'case':<24}{'seconds':>9}{'ratio':>8}{'at most':>9}{'host GiB':>10}{'at most':>9}"]
    for row in rows:
        host_gib = row["host_bytes"] / (1 << 30)
        most = "" if row["max_ratio"] is None else f"{row['max_ratio']}"
        most_gib = "" if row["max_host_bytes"] is None else f"{row['max_host_bytes'] >> 30}"
        figures = f"{row['elapsed_s']:>9}{row['ratio']:>8}{most:>9}{host_gib:>10.2f}{most_gib:>9}"
        lines.append(f"{row['case']:<24}{figures}{'' if row['holds'] else '  too much'}")
    return "\n".join(lines) + "\n"


def show_result(result: Mapping[str, object]) -> str:
    """A line a figure."""
    return "".join(f"{name:<20}{value}\n" for name, value in result.items())


if __name__ == "__main__":
    sys.exit(main())
