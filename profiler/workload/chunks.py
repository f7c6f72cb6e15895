"""A loss that never has all logits: trl's own, over the model's last hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def chunk_loss(model: PreTrainedModel) -> None:
    """Have the model compute its loss in chunks where it is called with `fused_lm_head`.

    It is what trl 1.16's `SFTTrainer` does to the model before it has adapters, with the outputs that it asks
    for.

    Raises:
        EnvironmentUnfitError: trl is not installed, or has no such loss.
    """
    try:
        from trl.trainer.utils import add_fused_lm_head  # noqa: PLC0415 - few jobs need trl
    except ImportError as error:
        raise EnvironmentUnfitError(
            "loss chunked is trl's, and no trl that has it is installed",
            hint="trl 1.16 has it: pip install --upgrade trl",
        ) from error
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
