"""Times whole commands from a cold start, as ratios to importing torch, transformers, peft and bitsandbytes.

Seconds differ between machines, and with what else they do; ratios of commands that take turns differ little.
The host memory is the largest process's peak (the worker's), read from the kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

IMPORTS = "import torch, transformers, peft, bitsandbytes"
RUN = ("-m", "profiler", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A command, and what it may cost at most (None: it is what the others are compared with)."""

    name: str
    arguments: tuple[str, ...]
    max_ratio: float | None = None
    max_host_bytes: int | None = None


CASES = (
    Case(name="bare import", arguments=("-c", IMPORTS)),
    Case(
        name="QLoRA, Llama-3.1-8B",
        arguments=(*RUN, "llama-3.1-8b", "--method", "qlora", "--gpu", "rtx-4090"),
        max_ratio=2.5,
        max_host_bytes=2 << 30,
    ),
    Case(
        name="LoRA, Llama-3.1-405B",
        arguments=(*RUN, "llama-3.1-405b", "--method", "lora", "--gpu", "b200", "--gpu-memory", "2TiB"),
        max_ratio=4.0,
        max_host_bytes=3 << 30,
    ),
)


def main() -> int:
    """Run the cases in turn, print a line for each, and fail if one costs too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each case; the median counts (default 3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {case.name: [] for case in CASES}
    host_bytes: dict[str, int] = dict.fromkeys(seconds, 0)
    with tempfile.TemporaryDirectory() as out:
        for _ in range(options.repeat):
            for case in CASES:
                elapsed_s, peak_bytes = _run(case, Path(out))
                seconds[case.name].append(elapsed_s)
                host_bytes[case.name] = max(host_bytes[case.name], peak_bytes)
    base_s = statistics.median(seconds[CASES[0].name])
    rows = [
        _row(case, statistics.median(seconds[case.name]), base_s, host_bytes[case.name]) for case in CASES
    ]
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if options.json else _table(rows))
    return 0 if all(row["holds"] for row in rows) else 1


def _run(case: Case, out: Path) -> tuple[float, int]:
    arguments = case.arguments if case.max_ratio is None else (*case.arguments, "--out", str(out))
    started_s = time.perf_counter()
    with (out / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    elapsed_s = time.perf_counter() - started_s
    if status != 0:
        raise SystemExit(f"{case.name} failed:\n{(out / 'log').read_text()}")
    return elapsed_s, usage.ru_maxrss * 1024  # KiB on Linux; its children's included


def _row(case: Case, elapsed_s: float, base_s: float, host_bytes: int) -> dict[str, object]:
    ratio = elapsed_s / base_s
    holds = (case.max_ratio is None or ratio <= case.max_ratio) and (
        case.max_host_bytes is None or host_bytes <= case.max_host_bytes
    )
    return {
        "case": case.name,
        "elapsed_s": round(elapsed_s, 2),
        "ratio": round(ratio, 2),
        "max_ratio": case.max_ratio,
        "host_bytes": host_bytes,
        "max_host_bytes": case.max_host_bytes,
        "holds": holds,
    }


def _table(rows: list[dict[str, object]]) -> str:
    lines = [f"{'case':<24}{'seconds':>9}{'ratio':>8}{'at most':>9}{'host GiB':>10}{'at most':>9}"]
    for row in rows:
        host_gib = int(str(row["host_bytes"])) / (1 << 30)
        most = "" if row["max_ratio"] is None else f"{row['max_ratio']}"
        most_gib = "" if row["max_host_bytes"] is None else f"{int(str(row['max_host_bytes'])) >> 30}"
        failed = "" if row["holds"] else "  too much"
        figures = f"{row['elapsed_s']:>9}{row['ratio']:>8}{most:>9}{host_gib:>10.2f}{most_gib:>9}"
        lines.append(f"{row['case']:<24}{figures}{failed}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
