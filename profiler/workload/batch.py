"""A batch of the job's shape, as a data collator would hand it over."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import torch

from profiler.spec.job import AttentionMask

if TYPE_CHECKING:
    from profiler.spec.job import JobSpec

IGNORED_LABEL = -100


def make_batch(spec: JobSpec, *, vocab_size: int, step: int) -> dict[str, torch.Tensor]:
    """Input ids, labels and, unless the job says none, an attention mask.

    Each is int64 `(batch_size, seq_len)` on the CPU. Ids are random but the same in every run. What the mask
    leaves out is not learned from.
    """
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(vocab_size, (spec.batch_size, spec.seq_len), generator=generator)
    batch = {"input_ids": ids, "labels": ids.clone()}
    match spec.attention_mask:
        case AttentionMask.NONE:
            return batch
        case AttentionMask.FULL:
            return batch | {"attention_mask": torch.ones_like(ids)}
        case AttentionMask.PADDED:
            mask = torch.ones_like(ids)
            mask[1 if spec.batch_size > 1 else 0 :, -max(1, spec.seq_len // 4) :] = 0
            batch["labels"][mask == 0] = IGNORED_LABEL
            return batch | {"attention_mask": mask}
    assert_never(spec.attention_mask)
