"""The auto class of transformers that a task's model is loaded by, and what users tell it and the model."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
import transformers

from profiler.jobs.choices import Task
from profiler.jobs.job import TASK_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PretrainedConfig, PreTrainedModel

    from profiler.jobs.job import JobSpec

_NAMES: Mapping[Task, str] = MappingProxyType(
    {
        Task.CAUSAL_LM: "AutoModelForCausalLM",
        Task.SEQUENCE_CLASSIFICATION: "AutoModelForSequenceClassification",
        Task.TOKEN_CLASSIFICATION: "AutoModelForTokenClassification",
        Task.SEQ2SEQ_LM: "AutoModelForSeq2SeqLM",
        Task.IMAGE_TEXT_TO_TEXT: "AutoModelForImageTextToText",
    }
)
_A_TOKEN = 0
"""The id of a token that a config does not name, as the tokenizer would: any will do."""


def auto_class(task: Task) -> Any:
    """The auto class."""
    return getattr(transformers, _NAMES[task])


def auto_class_name(task: Task) -> str:
    """What it is called."""
    return _NAMES[task]


def has_class(config: PretrainedConfig, task: Task) -> bool:
    """Whether the auto class of a task knows a model's family."""
    return type(config) in auto_class(task)._model_mapping


def config_arguments(spec: JobSpec) -> dict[str, int]:
    """What a job has the auto class change in the model's config."""
    return {"num_labels": spec.num_labels} if has_labels(spec.task) else {}


def has_labels(task: Task) -> bool:
    """Whether a task's model has a head of so many labels, which checkpoints of its body lack."""
    return task in TASK_KEYS["num_labels"]


def name_special_tokens(model: PreTrainedModel, task: Task) -> None:
    """Give a model the ids of tokens that it cannot do without, where its config has none.

    As users do by the tokenizer: `model.config.pad_token_id = tokenizer.pad_token_id` for a decoder that
    classifies several rows, which looks for the last token before the padding.
    """
    config: Any = model.config
    text: Any = config.get_text_config() if hasattr(config, "get_text_config") else config
    if task is Task.CAUSAL_LM:
        return
    if getattr(text, "pad_token_id", None) is None:
        text.pad_token_id = _A_TOKEN
    if model.config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id


def heads_of(config: PretrainedConfig, task: Task) -> list[str]:
    """What a classifier has besides the body that its checkpoint holds, by name."""
    with torch.device("meta"):
        model = auto_class(task).from_config(config)
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and next(module.parameters(), None) is not None
    ]
