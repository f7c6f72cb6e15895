"""What following a training script costs, against the same script on the same virtual card, left alone."""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.bench.timing import time_python
from profiler.errors import PeakvramError
from profiler.hardware.catalogue import find_gpu
from profiler.resources import configs_dir
from profiler.virtual.launch import launch_machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCRIPT = "mistral_7b.py"
# Without a mask: its value would be unknown where nothing is followed, and decide what runs.
ARGUMENTS = ("--mask", "none", "--steps", "24")
GPU = "a100-80gb"
MAX_RATIO = 1.5


def bench_script(*, repeat: int) -> dict[str, object]:
    """Both take turns; their times are told for the whole command and for its training steps."""
    script = (str(configs_dir() / "published" / "scripts" / SCRIPT), *ARGUMENTS)
    follow = ("-m", "profiler", "exec", "--gpu", GPU, "--", sys.executable)
    alone, followed = [], []
    with tempfile.TemporaryDirectory() as directory:
        surroundings = launch_machine(Path(directory), find_gpu(GPU)).environment(os.environ)
        for _ in range(repeat):
            alone.append(_time_training(script, environment=surroundings))
            followed.append(_time_training((*follow, *script)))
    return {"script": SCRIPT} | compare_training(alone, followed)


def compare_training(
    alone: Sequence[tuple[float, float]], followed: Sequence[tuple[float, float]]
) -> dict[str, object]:
    """Medians of (whole command, training) in seconds, their ratios, and whether the command's is allowed."""
    result: dict[str, object] = {}
    ratios = []
    for part, *runs in zip(
        ("command", "training"), zip(*alone, strict=True), zip(*followed, strict=True), strict=True
    ):
        alone_s, followed_s = map(statistics.median, runs)
        ratios.append(followed_s / alone_s)
        result |= {f"{part}_alone_s": round(alone_s, 2), f"{part}_followed_s": round(followed_s, 2)}
        result[f"{part}_ratio"] = round(ratios[-1], 2)
    return result | {"max_command_ratio": MAX_RATIO, "holds": ratios[0] <= MAX_RATIO}


def _time_training(
    arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> tuple[float, float]:
    """Seconds of a whole command, and of its training as `Trainer` tells them."""
    timing = time_python(arguments, environment=environment)
    runtime = re.search(r"'train_runtime': '?([0-9.]+)", timing.output)
    if runtime is None:
        raise PeakvramError(f"{' '.join(arguments)} told no time:\n{timing.output}")
    return timing.elapsed_s, float(runtime[1])
