from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.formula.configs import architecture_of, read_architecture
from profiler.jobs.presets import Preset, list_presets
from tests.unit.formula.shapes import a_model

if TYPE_CHECKING:
    from pathlib import Path

UNDESCRIBED = {
    "bart",
    "bert",
    "deberta-v2",
    "deepseek_v3",
    "gemma3",
    "gemma3_text",
    "gemma4",
    "glm4",
    "glm4_moe",
    "gpt_oss",
    "granite",
    "granitemoehybrid",
    "llama4_text",
    "modernbert",
    "olmo3",
    "phi3",
    "qwen2_5_vl",
    "qwen3_5_moe_text",
    "qwen3_vl",
    "roberta",
    "smollm3",
    "t5",
}
"""Families of presets that no reader describes: they run, and no formula speaks of them."""
DESCRIBED = [preset for preset in list_presets() if preset.architecture.model_type not in UNDESCRIBED]


@pytest.mark.parametrize("preset", DESCRIBED, ids=lambda preset: preset.id)
def test_every_preset_has_its_published_number_of_parameters(preset: Preset) -> None:
    assert architecture_of(preset.id).num_parameters == preset.num_parameters


@pytest.mark.parametrize("family", sorted(UNDESCRIBED))
def test_a_family_that_is_not_described_is_refused_by_its_name(family: str) -> None:
    preset = next(preset for preset in list_presets() if preset.architecture.model_type == family)
    with pytest.raises(ConfigError, match=f"no formula knows the shapes of a {family} model"):
        architecture_of(preset.id)


@pytest.mark.parametrize("preset", DESCRIBED, ids=lambda preset: preset.id)
def test_a_preset_has_the_widths_its_catalogue_shows(preset: Preset) -> None:
    found, shown = architecture_of(preset.id), preset.architecture
    assert (found.num_layers, found.hidden_size) == (shown.num_layers, shown.hidden_size)
    assert (found.num_heads, found.num_kv_heads) == (shown.num_heads, shown.num_kv_heads)
    assert (found.vocab_size, found.model_type) == (shown.vocab_size, shown.model_type)


@pytest.mark.parametrize("preset", DESCRIBED, ids=lambda preset: preset.id)
def test_the_kinds_of_blocks_make_up_all_blocks(preset: Preset) -> None:
    architecture = architecture_of(preset.id)
    assert sum(block.count for block in architecture.blocks) == architecture.num_layers


def test_an_unknown_family_is_named_beside_those_known() -> None:
    with pytest.raises(ConfigError, match="mamba2") as raised:
        read_architecture({"model_type": "mamba2"})
    assert "llama" in raised.value.hint
    assert "mixtral" in raised.value.hint


def test_a_config_without_a_figure_names_it() -> None:
    with pytest.raises(ConfigError, match="no num_hidden_layers"):
        a_model(num_hidden_layers=None)


def test_a_null_stands_for_the_default() -> None:
    assert a_model(num_key_value_heads=None).num_kv_heads == 4


def test_a_directory_is_read(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 16}
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 10}))
    # wte 80, wpe 128, ln_1 and ln_2 32, c_attn 216, c_proj 72, c_fc 288, c_proj 264, ln_f 16
    assert architecture_of(str(tmp_path)).num_parameters == 1096


def test_a_tied_output_matrix_counts_once() -> None:
    untied, tied = a_model(), a_model(tie_word_embeddings=True)
    assert untied.num_parameters - tied.num_parameters == 1000 * 64
    assert (untied.num_output_parameters, tied.num_output_parameters) == (64_000, 0)
