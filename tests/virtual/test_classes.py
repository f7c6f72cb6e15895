"""Classes of transformers that are compared with their derived formulas."""

from __future__ import annotations

import pytest

from profiler.bench.classes import bench_classes, families, small_config

WITHOUT_DEFAULT = {"gemma4_assistant"}
"""Families of transformers 5.24 whose config has no default that is a model."""


def test_every_family_has_a_small_config_or_is_known_to_have_none() -> None:
    failed = set()
    for model_type in families():
        try:
            config = small_config(model_type)
        except ValueError:
            failed.add(model_type)
            continue
        depth = config.get("num_hidden_layers", config.get("n_layer"))
        assert not isinstance(depth, int) or depth <= 2, model_type
    assert failed <= WITHOUT_DEFAULT


@pytest.mark.slow
def test_a_class_is_compared_with_its_derived_formula() -> None:
    found = bench_classes(only=("gpt2",))
    assert found == {
        "gpt2": "equal",
        "num_families": 1,
        "num_equal": 1,
        "num_held": 0,
        "num_missed": 0,
        "holds": True,
    }
