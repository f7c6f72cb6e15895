"""A batch of the job's shape, as a data collator would hand it over, or a tokenizer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, assert_never

import torch

from profiler.formula.images import image_input
from profiler.jobs.choices import AttentionMask, Task
from profiler.jobs.job import num_padded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

    from profiler.jobs.job import JobSpec

Batch = dict[str, torch.Tensor]

IGNORED_LABEL = -100
_SPECIAL = ("_token_id", "_token_index")
"""How the names of tokens end in configs that mean something to a model."""


def vocab_size_of(model: PreTrainedModel) -> int:
    """How many tokens a model, or its language model, has."""
    config: Any = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return int(text.vocab_size)


def make_batch(spec: JobSpec, model: PreTrainedModel, *, number: int) -> Batch:
    """Input ids, labels and, unless the job says none, an attention mask; images where the job has any.

    Ids and the mask are int64 `(batch_size, seq_len)` on the CPU, or `(1, batch_size * seq_len)` where rows
    are packed, which have position ids in place of a mask. Ids are random but the same in every run. What the
    mask leaves out is not learned from, nor a packed row's first token.

    Args:
        spec: the job.
        model: its model; ids are those of its tokens.
        number: of the batch in the run, from 0.
    """
    draw = torch.Generator().manual_seed(number)
    ids = torch.randint(vocab_size_of(model), (spec.batch_size, spec.seq_len), generator=draw)
    is_padding = torch.zeros_like(ids, dtype=torch.bool)
    if spec.attention_mask is AttentionMask.PADDED:
        is_padding[_padded_rows(spec), -num_padded(spec.seq_len) :] = True
    images: Batch = {}
    if spec.task is not Task.CAUSAL_LM:
        _avoid(ids, _special_tokens(model))
    if spec.task is Task.SEQUENCE_CLASSIFICATION and model.config.is_encoder_decoder:
        _end_rows(ids, is_padding, token=model.config.eos_token_id)
    if spec.has_images:
        images = _put_images(ids, spec, model, draw)
    batch = {"input_ids": ids, "labels": _labels(spec, ids, is_padding, draw), **images}
    match spec.attention_mask:
        case AttentionMask.NONE:
            return batch
        case AttentionMask.FULL | AttentionMask.PADDED:
            return batch | {"attention_mask": (~is_padding).long()}
        case AttentionMask.PACKED:
            batch["labels"][:, 0] = IGNORED_LABEL
            batch["position_ids"] = torch.arange(spec.seq_len).expand_as(ids)
            return {name: tensor.reshape(1, -1) for name, tensor in batch.items()}
    assert_never(spec.attention_mask)


def make_prompt(spec: JobSpec, *, vocab_size: int) -> Batch:
    """Input ids and an attention mask to generate from, int64 `(batch_size, seq_len)` on the CPU.

    Padding stands on the left, where `generate()` needs it.
    """
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size, (spec.batch_size, spec.seq_len), generator=draw)
    mask = torch.ones_like(ids)
    if spec.attention_mask is AttentionMask.PADDED:
        mask[_padded_rows(spec), : num_padded(spec.seq_len)] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _labels(
    spec: JobSpec, ids: torch.Tensor, is_padding: torch.Tensor, draw: torch.Generator
) -> torch.Tensor:
    """What is to be learned, as the collator of the task hands it over.

    The tokens themselves; a class for each, or for each row (float32 where there is but one, which is then a
    score); or another row of tokens, from which the model makes its decoder's own.
    """
    rows, num_labels = spec.batch_size, spec.num_labels
    match spec.task:
        case Task.CAUSAL_LM | Task.IMAGE_TEXT_TO_TEXT:
            return ids.masked_fill(is_padding, IGNORED_LABEL)
        case Task.TOKEN_CLASSIFICATION:
            labels = torch.randint(num_labels, ids.shape, generator=draw)
            return labels.masked_fill(is_padding, IGNORED_LABEL)
        case Task.SEQUENCE_CLASSIFICATION:
            if num_labels == 1:
                return torch.rand(rows, generator=draw)
            return torch.randint(num_labels, (rows,), generator=draw)
        case Task.SEQ2SEQ_LM:
            labels = torch.randint(int(ids.max()) + 1, (rows, spec.decoder_len), generator=draw)
            if spec.attention_mask is AttentionMask.PADDED and spec.decoder_len > 1:
                labels[_padded_rows(spec), -num_padded(spec.decoder_len) :] = IGNORED_LABEL
            return labels
    assert_never(spec.task)


def _special_tokens(model: PreTrainedModel) -> set[int]:
    named: Mapping[str, object] = model.config.to_dict()
    return {value for name, value in named.items() if name.endswith(_SPECIAL) and isinstance(value, int)}


def _avoid(ids: torch.Tensor, tokens: set[int]) -> None:
    """Text has none of these: an end or an image in the middle of it would not be one."""
    other = next(token for token in range(len(tokens) + 1) if token not in tokens)
    for token in tokens:
        ids[ids == token] = other


def _end_rows(ids: torch.Tensor, is_padding: torch.Tensor, *, token: int) -> None:
    """Every row ends with the token by which an encoder-decoder that classifies finds its end."""
    last = (~is_padding).sum(dim=1) - 1
    ids[torch.arange(len(ids)), last] = token


def _put_images(ids: torch.Tensor, spec: JobSpec, model: PreTrainedModel, draw: torch.Generator) -> Batch:
    """Writes the tokens of a job's images into each row, after its first; returns what comes with them."""
    image = image_input(model.config.to_dict(), image_size=spec.image_size)
    tokens = torch.tensor([-1 if token is None else token for token in image.tokens] * spec.images)
    place = ids[:, 1 : 1 + len(tokens)]
    place[:, tokens >= 0] = tokens[tokens >= 0]
    count = spec.batch_size * spec.images
    pixels = torch.rand((count * image.pixels[0], *image.pixels[1:]), generator=draw)
    batch = {"pixel_values": pixels}
    batch |= {name: torch.tensor([sizes] * count) for name, sizes in image.sizes.items()}
    if (
        image.type_ids in inspect.signature(model.forward).parameters
    ):  # releases that do not take it have none
        batch[image.type_ids] = (ids == image.image_token).long()
    return batch


def _padded_rows(spec: JobSpec) -> slice:
    return slice(1 if spec.batch_size > 1 else 0, None)
