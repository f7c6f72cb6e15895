"""Which shapes a model has, by its name or its config, without loading it."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.formula.families import FAMILIES
from profiler.jobs.choices import Weights
from profiler.jobs.models import read_config, resolve_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.formula.architecture import Architecture

NOT_AT_HAND = "its config is not on this machine, and a report asks no network for it"


class UnknownShapesError(ConfigError):
    """No formula of ours knows the shapes of a family of models."""


def read_architecture(config: Mapping[str, object]) -> Architecture:
    """The shapes of the model a Hugging Face config describes.

    Raises:
        UnknownShapesError: the family is not known here.
        ConfigError: the config lacks a figure.
    """
    model_type = str(config.get("model_type"))
    if model_type in FAMILIES:
        return FAMILIES[model_type](config)
    known = ", ".join(FAMILIES)
    raise UnknownShapesError(
        f"no formula knows the shapes of a {model_type} model",
        hint=f"formulas know {known}; `peakvram derive` finds one for any model that runs",
    )


@lru_cache(maxsize=64)
def architecture_of(model: str, *, revision: str | None = None) -> Architecture:
    """The shapes of a preset, of a directory's model, or of a model on the Hub.

    A Hub repository's config is fetched where this machine has none of it yet.

    Raises:
        ConfigError: the name stands for nothing, or for a model whose shapes are not known here.
        EnvironmentUnfitError: the config is on the Hub, and the Hub does not give it.
    """
    config = config_of(model, revision=revision)
    assert config is not None, "it may be fetched"
    return read_architecture(config)


def config_of(
    model: str,
    *,
    weights: Weights = Weights.RANDOM,
    revision: str | None = None,
    may_fetch: bool = True,
) -> Mapping[str, object] | None:
    """The config of a preset, of a directory's model, or of a model on the Hub.

    Args:
        model: as a job names it.
        weights: as a job asks for them; a preset's config serves for its pretrained weights, too.
        revision: of a model on the Hub.
        may_fetch: whether one that is not on this machine may be fetched; else the answer is None.

    Raises:
        ConfigError: the name stands for nothing, or the config is none.
        EnvironmentUnfitError: the config is on the Hub, and the Hub does not give it.
    """
    needed = Weights.RANDOM if revision is None else weights
    source = resolve_model(model, weights=needed, revision=revision)
    if source.kind != "hub":
        return read_config(source)
    from profiler.formula.hub import fetch_config, find_config  # noqa: PLC0415 - few jobs need it

    find = fetch_config if may_fetch else find_config
    return find(source.location, revision=source.revision)


@cache
def is_at_hand(model: str) -> bool:
    """Whether nothing need be fetched for a model; one whose name means nothing needs nothing either."""
    try:
        return config_of(model, may_fetch=False) is not None
    except ConfigError:
        return True
