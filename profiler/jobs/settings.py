"""What a job's settings are called in a table, and which of them set it apart."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from profiler.jobs.job import EVALUATION_KEYS, METHODS, TASK_KEYS, TRAINING_KEYS, Inference, JobSpec
from profiler.jobs.keys import flatten
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

UNSET = "-"
"""How a value that is not set is shown."""

Settings = dict[str, str]
"""A job's fields by dotted key, as they are shown."""


def settings_of(spec: JobSpec) -> Settings:
    """Every field of a job that means something to it, as text."""
    unused = {key for key, tasks in TASK_KEYS.items() if spec.task not in tasks}
    unused |= set(TRAINING_KEYS) if isinstance(spec.method, Inference) else set()
    unused |= set() if spec.eval_batches else set(EVALUATION_KEYS)
    fields = spec.model_dump(mode="json", exclude=unused)
    return {key: show_value(key, value) for key, value in flatten(fields).items()}


def show_value(key: str, value: object) -> str:
    """One value as it stands in a table: `on`, `q_proj,v_proj`, `24.00 GiB`."""
    match value:
        case None | "":
            return UNSET
        case bool():
            return "on" if value else "off"
        case int() if key.endswith("_bytes"):
            return format_bytes(value)
        case list() | tuple():
            return ",".join(map(str, value)) or UNSET
        case dict():
            return ", ".join(f"{name} {show_value(name, inner)}" for name, inner in value.items())
        case _:
            return str(value)


def varying_keys(jobs: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys that do not have one value in all jobs that have them, in the order they come up."""
    keys = dict.fromkeys(key for job in jobs for key in job)
    return [key for key in keys if len({job[key] for job in jobs if key in job}) > 1]


def unusual(settings: Mapping[str, str], *, besides: Iterable[str] = ()) -> list[str]:
    """What a reader must know of a job besides the defaults, such as `attention eager`, and `besides`."""
    usual = _defaults(settings["method.kind"])
    known = {"method.kind", *besides}
    return [
        f"{key} {value}" for key, value in settings.items() if key not in known and usual.get(key) != value
    ]


def method_label(settings: Mapping[str, str], *, besides: str = "") -> str:
    """A method in a row's heading, such as `full` or `qlora r16 double_quant off`, without `besides`."""
    own = {key: value for key, value in settings.items() if key.startswith("method.") and key != besides}
    rank = [f"r{own['method.rank']}"] if "method.rank" in own else []
    rest = [text.removeprefix("method.") for text in unusual(own, besides=["method.rank"])]
    return " ".join([settings["method.kind"], *rank, *rest])


@cache
def _defaults(kind: str) -> Mapping[str, str]:
    return MappingProxyType(settings_of(JobSpec(model=UNSET, method=METHODS[kind]())))
