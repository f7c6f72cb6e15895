"""Which causal language models of the installed transformers are estimated as well as they run.

Of each class a model is made small from its default config. A formula is derived for it, and what it says is
compared with runs at other batches.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from profiler.bench.derived import holds
from profiler.derive.make import make_derived
from profiler.derive.observe import Observation, Point
from profiler.derive.runs import PointRuns
from profiler.errors import PeakvramError
from profiler.estimate.card import card_of
from profiler.estimate.derived import estimate_with
from profiler.estimate.estimate import single
from profiler.formula.chosen import choose_attention
from profiler.formula.derived.evaluate import DerivedFormula
from profiler.jobs.load import job_from
from profiler.text import in_one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.jobs.job import JobSpec

LONGEST: Final = 256
"""Rows of a class that takes longer ones are no other than these."""
POINTS: Final = (Point(1, 97), Point(2, 64), Point(3, 131), Point(2, 200))
"""Batches to compare at, that no derivation is made from but by chance."""
_NUM_LAYERS: Final = 2
_NUM_EXPERTS: Final = 8
_LAYERS: Final = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"),
)
_EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def bench_classes(*, only: tuple[str, ...] = ()) -> dict[str, object]:
    """Compares every class; progress goes to stderr, and Ctrl-C ends it with what there is.

    Args:
        only: families to look at (`model_type`); empty for all.

    Returns:
        By `model_type` what came of it: `equal` at all batches, `held` by intervals, `missed`, or why it does
        not run.
    """
    found: dict[str, str] = {}
    try:
        for model_type in only or tuple(families()):
            found[model_type] = _try(model_type)
            sys.stderr.write(f"{model_type}: {found[model_type]}\n")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what follows is of the families before\n")
    num_of = Counter(answer.split()[0] for answer in found.values())
    return {
        **found,
        "num_families": len(found),
        "num_equal": num_of["equal"],
        "num_held": num_of["held"],
        "num_missed": num_of["missed"],
        "holds": bool(found) and not num_of["missed"],
    }


def families() -> Mapping[str, str]:
    """The class that `AutoModelForCausalLM` takes, by `model_type`; of names for one class the first."""
    from transformers.models.auto.modeling_auto import (  # noqa: PLC0415 - seconds, and only here
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    )

    of_classes: dict[str, str] = {}
    for model_type, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        of_classes.setdefault(name, model_type)
    return {model_type: name for name, model_type in of_classes.items()}


def small_config(model_type: str) -> dict[str, Any]:
    """The default config of a family with few layers, and few experts.

    Raises:
        ValueError: transformers makes no default config of it.
    """
    from transformers import CONFIG_MAPPING  # noqa: PLC0415 - as above

    try:
        config: dict[str, Any] = CONFIG_MAPPING[model_type]().to_dict()
    except Exception as error:
        raise ValueError(f"no default config: {in_one_line(str(error))}") from error
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        _shrink(part)
    return config


def _shrink(part: dict[str, Any]) -> None:
    depths = {part[name] for name in _LAYERS if isinstance(part.get(name), int)}
    for name, value in part.items():
        if name in _LAYERS and isinstance(value, int):
            part[name] = min(value, _NUM_LAYERS)
        elif name in _EXPERTS and isinstance(value, int):
            part[name] = min(value, _NUM_EXPERTS)
        elif isinstance(value, list) and len(value) in depths:  # something of each layer
            part[name] = value[:_NUM_LAYERS]


def _try(model_type: str) -> str:
    try:
        config = small_config(model_type)
    except ValueError as error:
        return str(error)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        spec = job_from(
            {
                "model": directory,
                "method": "full",
                "seq_len": 64,
                "gpu": "rtx-4090",
                "gpu_memory_bytes": "4TiB",
                "steps": 2,
            },
            source=model_type,
        )
        try:
            return _compare(choose_attention(spec)[0], Path(directory))
        except PeakvramError as error:
            return in_one_line(error.message).replace(directory, model_type)


def _compare(spec: JobSpec, directory: Path) -> str:
    made = make_derived(spec, longest=LONGEST, directory=directory)
    with PointRuns(spec) as runs:
        found = runs.observe(POINTS, num_steps=spec.steps)
    formula, answers = DerivedFormula(made.file), set()
    for point, one in found.items():
        if not isinstance(one, Observation):
            return f"{point.batch_size} x {point.seq_len}: {one}"
        said = estimate_with(formula, spec.model_copy(update=point._asdict()), card=card_of(spec)).corrected
        assert said.reserved is not None, "a derived formula has it"
        pairs = ((said.allocated, one.allocated_bytes), (said.reserved, one.reserved_bytes))
        if all(single(band.value_bytes) == run_bytes for band, run_bytes in pairs):
            answers.add("equal")
        elif all(holds(band, run_bytes) for band, run_bytes in pairs):
            answers.add("held")
        else:
            answers.add(f"missed at {point.batch_size} x {point.seq_len}")
    return max(answers)  # missed, held, equal: the worst is the last
