from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

import pytest

from profiler.jobs.choices import Attention, Task
from profiler.jobs.model_classes import find_class, find_class_of, natural_task, tasks_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLE = """
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict(
    [
        ("plain", "PlainForCausalLM"),
        ("old", "OldForCausalLM"),
        ("elsewhere", "ElsewhereForCausalLM"),
        ("sees", "SeesForConditionalGeneration"),
        ("reads", "SeesForCausalLM"),
    ]
)
MODEL_MAPPING_NAMES = OrderedDict(
    [
        ("sees_image", "SeesImageModel"),
        ("sees_sound", "SeesSoundModel"),
        ("guest", "GuestModel"),
    ]
)
"""
SEES = """
class SeesPreTrainedModel(PreTrainedModel):
    _supports_sdpa = True
    _supports_flash_attn = True


class SeesImageModel(SeesPreTrainedModel):
    pass


class SeesSoundModel(SeesPreTrainedModel):
    _supports_sdpa = False


class SeesForConditionalGeneration(SeesPreTrainedModel, GenerationMixin):
    pass


class SeesForCausalLM(SeesPreTrainedModel, GenerationMixin):
    pass
"""
PLAIN = """
class PlainPreTrainedModel(PreTrainedModel):
    _supports_sdpa = True
    supports_gradient_checkpointing = True


class PlainForCausalLM(PlainPreTrainedModel, GenerationMixin):
    _supports_sdpa: bool = False  # its own word is the last
"""
OLD = """
class OldForCausalLM(PreTrainedModel):
    _supports_flash_attn_2 = True
"""
ELSEWHERE = """
class ElsewhereForCausalLM(LlamaForCausalLM):
    pass
"""


@pytest.fixture
def _sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed transformers of a few families."""
    families = {"plain": PLAIN, "old": OLD, "elsewhere": ELSEWHERE, "sees": SEES, "reads": SEES}
    files = {"auto/modeling_auto.py": TABLE} | {f"{n}/modeling_{n}.py": s for n, s in families.items()}
    for name, source in files.items():
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True)
        path.write_text(source)
    spec = ModuleSpec("transformers", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    find_class.cache_clear()
    yield
    find_class.cache_clear()


@pytest.mark.usefixtures("_sources")
def test_a_class_has_what_it_says_and_what_it_inherits() -> None:
    plain, old = find_class("plain"), find_class("old")
    assert plain is not None
    assert old is not None
    assert plain.attentions == {Attention.EAGER}
    assert plain.has_checkpointing
    assert old.attentions == {Attention.EAGER, Attention.FLASH_ATTENTION_2}
    assert not old.has_checkpointing


@pytest.mark.usefixtures("_sources")
@pytest.mark.parametrize("family", ["elsewhere", "unknown"])
def test_what_its_sources_do_not_tell_is_not_known(family: str) -> None:
    assert find_class(family) is None


@pytest.mark.parametrize(("family", "has_sdpa"), [("llama", True), ("gpt2", True), ("gpt_oss", False)])
def test_installed_families_are_known(family: str, has_sdpa: bool) -> None:
    model = find_class(family)
    assert model is not None
    assert (Attention.SDPA in model.attentions) == has_sdpa


@pytest.mark.usefixtures("_sources")
@pytest.mark.parametrize(
    ("config", "attentions"),
    [
        ({"model_type": "sees"}, set(Attention)),
        ({"model_type": "sees", "vision_config": {"model_type": "sees_image"}}, set(Attention)),
        (
            {"model_type": "sees", "sound_config": {"model_type": "sees_sound"}},
            {Attention.EAGER, Attention.FLASH_ATTENTION_2},
        ),
        (
            {"model_type": "sees", "vision_config": {"model_type": "guest"}},
            set(Attention),
        ),  # another's source
        ({"model_type": "sees", "sound_config": None}, set(Attention)),
        # The language model alone is built.
        ({"model_type": "reads", "sound_config": {"model_type": "sees_sound"}}, set(Attention)),
    ],
)
def test_a_model_has_the_attentions_that_all_of_its_parts_have(
    config: dict[str, object], attentions: set[Attention]
) -> None:
    model = find_class_of(config)
    assert model is not None
    assert model.attentions == attentions


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"model_type": "llama"}, Task.CAUSAL_LM),
        ({"model_type": "bert"}, Task.SEQUENCE_CLASSIFICATION),
        ({"model_type": "bert", "is_decoder": True}, Task.CAUSAL_LM),
        ({"model_type": "modernbert"}, Task.SEQUENCE_CLASSIFICATION),
        ({"model_type": "t5"}, Task.SEQ2SEQ_LM),
        ({"model_type": "bart", "architectures": ["BartModel"]}, Task.SEQ2SEQ_LM),
        (
            {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
            "sequence-classification",
        ),
        ({"model_type": "bert", "architectures": ["BertForTokenClassification"]}, "token-classification"),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}, Task.CAUSAL_LM),
        ({"model_type": "qwen2_vl"}, Task.IMAGE_TEXT_TO_TEXT),
        ({"model_type": "vit"}, None),
        ({"model_type": "of_nobody"}, None),
    ],
    ids=str,
)
def test_a_model_is_for_what_its_config_says_or_its_family_is_for(
    config: dict[str, object], task: Task | None
) -> None:
    assert natural_task(config) == task


def test_a_family_has_the_tasks_that_transformers_has_classes_for() -> None:
    assert tasks_of("bert") == (Task.CAUSAL_LM, Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION)
    assert tasks_of("of_nobody") == ()


@pytest.mark.parametrize("task", [Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION])
def test_a_head_on_any_body_has_what_the_body_has(task: Task) -> None:
    body = find_class("llama")
    assert body is not None
    assert find_class("llama", task) == body
