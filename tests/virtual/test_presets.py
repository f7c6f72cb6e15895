"""The presets as transformers builds them, on torch's meta device: it holds no values and needs no GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
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
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    assert isinstance(model, torch.nn.Module)
    return model


def read_field(config: Any, name: str) -> object:
    """The value as published; transformers 5 gathers what concerns rotary positions in one place."""
    rope = getattr(config, "rope_parameters", None) or {}
    if name == "rope_scaling" and since(transformers="5"):
        scaling = {
            key: value for key, value in rope.items() if key not in {"rope_theta", "partial_rotary_factor"}
        }
        return None if scaling.get("rope_type") == "default" else scaling
    return rope[name] if name in rope else getattr(config, name)


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
    assert {name: read_field(config, name) for name in published} == published


def test_the_summary_of_a_preset_agrees_with_transformers(preset: Preset) -> None:
    config, summary = a_config(preset), preset.architecture
    assert summary.model_type == config.model_type
    assert summary.num_layers == config.num_hidden_layers
    assert summary.hidden_size == config.hidden_size
    assert summary.num_heads == config.num_attention_heads
    assert summary.num_kv_heads == getattr(config, "num_key_value_heads", config.num_attention_heads)
    assert summary.vocab_size == config.vocab_size
