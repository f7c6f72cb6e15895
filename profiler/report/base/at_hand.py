"""Whether a formula can be asked of a model with no network: its config is shipped, local or in the cache."""

from __future__ import annotations

from functools import cache

from profiler.errors import ConfigError
from profiler.jobs.choices import Weights
from profiler.jobs.models import resolve_model

NOT_AT_HAND = "its config is not on this machine, and a report asks no network for it"


@cache
def is_at_hand(model: str) -> bool:
    """Whether nothing need be fetched for a model; one whose name means nothing needs nothing either."""
    try:
        source = resolve_model(model, weights=Weights.RANDOM)
    except ConfigError:
        return True
    if source.kind != "hub":
        return True
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - most jobs name a preset

    return isinstance(try_to_load_from_cache(source.location, "config.json", revision=source.revision), str)
