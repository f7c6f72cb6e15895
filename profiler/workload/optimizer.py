"""The optimizer, as `Trainer` makes it: its class, its arguments, its two parameter groups."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import torch
from transformers import Trainer, TrainingArguments

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec


def make_optimizer(model: torch.nn.Module, spec: JobSpec) -> torch.optim.Optimizer:
    """Make the optimizer over the trainable parameters.

    The split into decaying and other parameters matters for memory: foreach optimizers take temporaries a
    group.
    """
    with tempfile.TemporaryDirectory() as unused:
        arguments = TrainingArguments(output_dir=unused, optim=spec.optimizer.value, report_to=[])
        cls, kwargs = Trainer.get_optimizer_cls_and_kwargs(arguments)
    # The rule differs between releases, and the method uses nothing of its Trainer.
    decaying = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in trainable if n in decaying], "weight_decay": arguments.weight_decay},
        {"params": [p for n, p in trainable if n not in decaying], "weight_decay": 0.0},
    ]
    if not spec.foreach:
        kwargs["foreach"] = False
    optimizer: torch.optim.Optimizer = cls(groups, **kwargs)
    if kwargs.get("optim_bits") == 8:
        _keep_embeddings_in_fp32(model)
    return optimizer


def _keep_embeddings_in_fp32(model: torch.nn.Module) -> None:
    """Trainer lets bitsandbytes optimize embeddings in 32 bits."""
    from bitsandbytes.optim.optimizer import GlobalOptimManager  # noqa: PLC0415 - for 8-bit optimizers

    manager = GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
