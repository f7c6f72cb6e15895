"""A batch of the job's shape, as a data collator would hand it over, or a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import torch

from profiler.jobs.choices import AttentionMask

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec

IGNORED_LABEL = -100


def make_batch(spec: JobSpec, *, vocab_size: int, number: int) -> dict[str, torch.Tensor]:
    """Input ids, labels and, unless the job says none, an attention mask; or position ids of packed rows.

    Each is int64 `(batch_size, seq_len)` on the CPU, or `(1, batch_size * seq_len)` where rows are packed.
    Ids are random but the same in every run. What the mask leaves out is not learned from, nor a packed row's
    first token.

    Args:
        spec: the job.
        vocab_size: ids are below it.
        number: of the batch in the run, from 0.
    """
    ids = _draw_ids(spec, vocab_size=vocab_size, seed=number)
    batch = {"input_ids": ids, "labels": ids.clone()}
    match spec.attention_mask:
        case AttentionMask.NONE:
            return batch
        case AttentionMask.FULL:
            return batch | {"attention_mask": torch.ones_like(ids)}
        case AttentionMask.PADDED:
            mask = torch.ones_like(ids)
            mask[_padded_rows(spec), -_num_padded(spec) :] = 0
            batch["labels"][mask == 0] = IGNORED_LABEL
            return batch | {"attention_mask": mask}
        case AttentionMask.PACKED:
            batch["labels"][:, 0] = IGNORED_LABEL
            batch["position_ids"] = torch.arange(spec.seq_len).expand_as(ids)
            return {name: tensor.reshape(1, -1) for name, tensor in batch.items()}
    assert_never(spec.attention_mask)


def make_prompt(spec: JobSpec, *, vocab_size: int) -> dict[str, torch.Tensor]:
    """Input ids and an attention mask to generate from, int64 `(batch_size, seq_len)` on the CPU.

    Padding stands on the left, where `generate()` needs it.
    """
    ids = _draw_ids(spec, vocab_size=vocab_size, seed=0)
    mask = torch.ones_like(ids)
    if spec.attention_mask is AttentionMask.PADDED:
        mask[_padded_rows(spec), : _num_padded(spec)] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _draw_ids(spec: JobSpec, *, vocab_size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (spec.batch_size, spec.seq_len), generator=generator)


def _padded_rows(spec: JobSpec) -> slice:
    return slice(1 if spec.batch_size > 1 else 0, None)


def _num_padded(spec: JobSpec) -> int:
    return max(1, spec.seq_len // 4)
