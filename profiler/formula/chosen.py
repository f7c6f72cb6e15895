"""Which attention a job runs with that names none: the default one, or what its model has in its place."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

from profiler.errors import PeakvramError
from profiler.formula.configs import config_of
from profiler.jobs.causal_models import find_causal_model_of
from profiler.jobs.choices import Attention, Weights
from profiler.jobs.job import JobSpec

_FIELD = "attention"
DEFAULT = Attention(JobSpec.model_fields[_FIELD].default)


def choose_attention(job: JobSpec) -> tuple[JobSpec, str]:
    """The job with an attention that its model has, and why; the reason is empty where nothing changes.

    A job that names its attention keeps it: whether its model has that one is the judge's to say. So does one
    whose model's config is not on this machine.
    """
    if _FIELD in job.model_fields_set:
        return job, ""
    chosen = _in_place_of_default(job.model, job.weights, job.revision)
    if chosen is None:
        return job, ""
    changed = job.model_copy(update={_FIELD: chosen})
    return changed, attention_note(changed)


def attention_note(job: JobSpec) -> str:
    """Why a job does not run with the default attention, where its model has none; else empty."""
    if job.attention is DEFAULT or _in_place_of_default(job.model, job.weights, job.revision) is None:
        return ""
    installed = version("transformers")
    return f"attention is {job.attention}: {job.model} has no {DEFAULT} attention in transformers {installed}"


@lru_cache(maxsize=256)
def _in_place_of_default(model: str, weights: Weights, revision: str | None) -> Attention | None:
    """What a model has in place of the default attention; None where it has that one, or nothing tells."""
    try:
        config = config_of(model, weights=weights, revision=revision, may_fetch=False)
    except PeakvramError:  # a name that means nothing is refused where the job is judged
        return None
    causal = find_causal_model_of(config) if config is not None else None
    if causal is None or DEFAULT in causal.attentions:
        return None
    return Attention.EAGER if Attention.EAGER in causal.attentions else min(causal.attentions)
