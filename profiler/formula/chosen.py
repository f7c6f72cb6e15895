"""What a job runs with that does not name it: the task, length and attention that its model is made for."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from profiler.errors import PeakvramError
from profiler.formula.configs import config_of
from profiler.formula.positions import num_positions
from profiler.jobs.choices import Attention, Task, Weights
from profiler.jobs.job import TASK_KEYS, Inference, JobSpec
from profiler.jobs.model_classes import find_class_of, natural_task, tasks_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELD = "attention"
DEFAULT = Attention(JobSpec.model_fields[_FIELD].default)


def choose_unnamed(job: JobSpec) -> tuple[JobSpec, tuple[str, ...]]:
    """The job with what suits its model in place of what it does not name, and why, choice by choice.

    What a job names stays: whether its model has that is the judge's to say. So does a job whose model's
    config is not on this machine.
    """
    reasons = []
    for choose in (choose_task, choose_length, choose_attention):
        job, reason = choose(job)
        reasons += [reason] if reason else []
    return job, tuple(reasons)


def choose_task(job: JobSpec) -> tuple[JobSpec, str]:
    """The job with the task that its model is for, and why; the reason is empty where nothing changes.

    The number of labels is that of the config, where it has any.
    """
    config = _config_at_hand(job)
    if config is None:
        return job, ""
    reason, changes = "", dict[str, object]()
    if "task" not in job.model_fields_set and not isinstance(job.method, Inference):
        task = natural_task(config)
        if task not in (None, job.task):
            others = [str(one) for one in tasks_of(str(config["model_type"])) if one is not task]
            what = f"what {job.model} is for" if others else f"all that {job.model} is for"
            also = f"; --task takes {' or '.join(others)} too" if others else ""
            reason, changes = f"task is {task}: that is {what}{also}", {"task": task}
    labels = config.get("id2label")
    is_classifier = changes.get("task", job.task) in TASK_KEYS["num_labels"]
    if is_classifier and "num_labels" not in job.model_fields_set and isinstance(labels, dict) and labels:
        changes |= {"num_labels": len(labels)}
    return (job.model_copy(update=changes), reason) if changes else (job, "")


def choose_length(job: JobSpec) -> tuple[JobSpec, str]:
    """The job with rows no longer than its model has positions for, and why; as `choose_task` does."""
    config = _config_at_hand(job)
    limit = num_positions(config) if config is not None else None
    if "seq_len" in job.model_fields_set or limit is None or limit >= job.seq_len:
        return job, ""
    if isinstance(job.method, Inference):
        return job, ""  # the new tokens need room, too
    changed = job.model_copy(update={"seq_len": limit})
    return changed, f"seq_len is {limit}: {job.model} has positions for {limit} tokens"


def choose_attention(job: JobSpec) -> tuple[JobSpec, str]:
    """The job with an attention that its model has, and why; as `choose_task` does."""
    if _FIELD in job.model_fields_set:
        return job, ""
    chosen = _in_place_of_default(job.model, job.weights, job.revision, job.task)
    if chosen is None:
        return job, ""
    changed = job.model_copy(update={_FIELD: chosen})
    return changed, attention_note(changed)


def attention_note(job: JobSpec) -> str:
    """Why a job does not run with the default attention, where its model has none; else empty."""
    is_usual = job.attention is DEFAULT
    if is_usual or _in_place_of_default(job.model, job.weights, job.revision, job.task) is None:
        return ""
    installed = version("transformers")
    return f"attention is {job.attention}: {job.model} has no {DEFAULT} attention in transformers {installed}"


def _config_at_hand(job: JobSpec) -> Mapping[str, object] | None:
    return _config_of(job.model, job.weights, job.revision)


def _config_of(model: str, weights: Weights, revision: str | None) -> Mapping[str, object] | None:
    try:
        return config_of(model, weights=weights, revision=revision, may_fetch=False)
    except PeakvramError:  # a name that means nothing is refused where the job is judged
        return None


@lru_cache(maxsize=256)
def _in_place_of_default(model: str, weights: Weights, revision: str | None, task: Task) -> Attention | None:
    """What a model has in place of the default attention; None where it has that one, or nothing tells."""
    config = _config_of(model, weights, revision)
    found = find_class_of(config, task) if config is not None else None
    if found is None or DEFAULT in found.attentions:
        return None
    return Attention.EAGER if Attention.EAGER in found.attentions else min(found.attentions)
