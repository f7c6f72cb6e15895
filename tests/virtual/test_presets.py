"""The presets as transformers builds them, on torch's meta device: it holds no values and needs no GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from profiler.jobs.models import list_presets
from profiler.jobs.presets import Preset, read_config_file
from tests.versions import since

PRESETS = list_presets()


@pytest.fixture(params=PRESETS, ids=lambda preset: preset.id)
def preset(request: pytest.FixtureRequest) -> Preset:
    preset = request.param
    assert isinstance(preset, Preset)
    if preset.architecture.model_type not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {preset.architecture.model_type}")
    return preset


def a_config(preset: Preset) -> Any:
    fields = read_config_file(preset.config_path)
    return AutoConfig.for_model(str(fields.pop("model_type")), **fields)


def a_meta_model(config: Any) -> torch.nn.Module:
    """A causal language model, or of other families the class that the config names."""
    name = config.architectures[0]
    with torch.device("meta"):
        is_causal = type(config) in AutoModelForCausalLM._model_mapping and "MaskedLM" not in name
        if is_causal and config.model_type not in OF_OTHER_TASKS:
            auto: Any = AutoModelForCausalLM
            model = auto.from_config(config)
        else:
            model = getattr(transformers, name)(config)
    assert isinstance(model, torch.nn.Module)
    return model


OF_OTHER_TASKS = {"bart"}
"""Families that have a causal language model, and whose published class is none."""
THETAS = {"rope_local_base_freq", "global_rope_theta", "local_rope_theta"}
"""What the base of rotary positions is called where it differs between blocks."""
ROPE = {"rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", *THETAS}
"""What transformers 5 gathers in one place, by kind of block where these differ."""


OF_FULL_BLOCKS = {"global_head_dim": "head_dim", "num_global_key_value_heads": "num_key_value_heads"}
"""Figures of Gemma 4 that newer transformers keeps with each block, and what they are called there."""


def read_field(config: Any, name: str, published: object) -> object:
    """The value as published, where the config says the same of it in other words."""
    if name in ROPE and since(transformers="5"):
        said = figures_of(config.rope_parameters)
        return published if figures_of({name: published}) <= said else said
    if isinstance(published, dict) and "model_type" in published:  # a part of a model, such as its encoder
        part = getattr(config, name)
        return {field: read_field(part, field, inside) for field, inside in published.items()}
    whole = config.to_dict()
    if name in OF_FULL_BLOCKS and name not in whole:
        full = config.layer_types.index("full_attention")
        value = getattr(config.per_layer_config[full], OF_FULL_BLOCKS[name])
        return published if published is None else value  # None stands for the figure of all blocks
    value = whole[name] if name in whole else getattr(config, name)
    if name == "model_type" and value == f"{published}_vision":  # it was once called as all of the model
        return published
    if name == "layer_types" and config.model_type == "granitemoehybrid":
        return [str(kind).removeprefix("full_") for kind in value]  # transformers 5 puts it before
    return value


def figures_of(rope: object) -> set[tuple[str, str]]:
    """What rotary positions are computed from: figures by name, of whichever kind of block."""
    renamed = {**dict.fromkeys(THETAS, "rope_theta"), "type": "rope_type"}
    if not isinstance(rope, dict):
        return set()
    inside = [figures_of(value) for value in rope.values()]
    own = {
        (
            renamed.get(str(name), str(name)),
            repr(float(value)) if isinstance(value, int | float) else repr(value),
        )
        for name, value in rope.items()
        if value is not None and not isinstance(value, dict)
    }
    return own.union(*inside)


def test_a_preset_has_exactly_the_published_number_of_parameters(preset: Preset) -> None:
    config = a_config(preset)
    model = a_meta_model(config)
    assert type(model).__name__ == config.architectures[0]
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    # `parameters()` gives a tensor that two modules share once.
    assert sum(parameter.numel() for parameter in model.parameters()) == preset.num_parameters


def test_a_preset_loads_from_a_directory_exactly_as_given(preset: Preset, tmp_path: Path) -> None:
    text = preset.config_path.read_text(encoding="utf-8")
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    config = AutoConfig.from_pretrained(tmp_path)
    published = json.loads(text)
    assert {name: read_field(config, name, value) for name, value in published.items()} == published


def test_the_summary_of_a_preset_agrees_with_transformers(preset: Preset) -> None:
    config, summary = a_config(preset), preset.architecture
    assert summary.model_type == config.model_type
    text = config.get_text_config()
    assert summary.num_layers == text.num_hidden_layers
    assert summary.hidden_size == text.hidden_size
    assert summary.num_heads == text.num_attention_heads
    assert summary.num_kv_heads == text.to_dict().get("num_key_value_heads", text.num_attention_heads)
    assert summary.vocab_size == text.vocab_size
