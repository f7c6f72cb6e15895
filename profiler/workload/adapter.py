"""What turns a loaded model into the one that trains: k-bit preparation, checkpointing, LoRA adapters."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

from profiler.errors import ConfigError
from profiler.jobs.choices import Task
from profiler.jobs.job import Full, Inference, Int8Lora, JobSpec, Lora, QLora
from profiler.jobs.targets import is_targeted

try:
    from transformers.integrations.neftune import neftune_post_forward_hook
except ImportError:  # before transformers 5
    from transformers.trainer_utils import neftune_post_forward_hook  # type: ignore[attr-defined,no-redef]

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transformers import PreTrainedModel


_TASK_TYPES: Mapping[Task, str] = MappingProxyType(
    {
        Task.CAUSAL_LM: "CAUSAL_LM",
        Task.SEQUENCE_CLASSIFICATION: "SEQ_CLS",
        Task.TOKEN_CLASSIFICATION: "TOKEN_CLS",
        Task.SEQ2SEQ_LM: "SEQ_2_SEQ_LM",
        Task.IMAGE_TEXT_TO_TEXT: "CAUSAL_LM",
    }
)
"""What users tell peft: a classifier's head is then trained beside the adapters, and saved with them."""


def prepare_model(model: PreTrainedModel, spec: JobSpec) -> PreTrainedModel:
    """Prepare a quantized model for training where the job asks for it, and switch checkpointing on."""
    checkpointing = spec.gradient_checkpointing
    kwargs = {"use_reentrant": checkpointing.reentrant}
    match spec.method:
        case QLora(kbit_prepare=True) | Int8Lora(kbit_prepare=True):
            prepared: PreTrainedModel = prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=checkpointing.enabled, gradient_checkpointing_kwargs=kwargs
            )
            return prepared
        case Full() | Lora() | QLora() | Int8Lora() | Inference():
            if checkpointing.enabled:
                _enable_checkpointing(model, kwargs)
            return model


def add_adapter(model: PreTrainedModel, spec: JobSpec) -> PreTrainedModel | PeftModel:
    """Inject LoRA adapters, or train every weight.

    Raises:
        ConfigError: the model has no modules of the names asked for, or of some of them.
    """
    if isinstance(spec.method, Full | Inference):
        return model
    method = spec.method
    config = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=method.targets if isinstance(method.targets, str) else list(method.targets),
        use_dora=method.use_dora,
        use_rslora=method.use_rslora,
        modules_to_save=list(method.modules_to_save) or None,
        task_type=_TASK_TYPES[spec.task],
    )
    try:
        adapted = get_peft_model(model, config, autocast_adapter_dtype=method.autocast_adapter_dtype)
    except ValueError as error:
        names = sorted(
            {
                name.rsplit(".", 1)[-1]
                for name, module in model.named_modules()
                if isinstance(module, torch.nn.Linear)
            }
        )
        raise ConfigError(
            f"no adapter fits {spec.model}: {str(error).partition('. ')[0]}",
            hint=f"its linear modules are {', '.join(names)}",
        ) from error
    _refuse_dropped_targets(adapted, config, spec)
    _refuse_absent_modules(adapted, method.modules_to_save, spec)
    if isinstance(method, QLora) and method.trl_casting:
        _cast_as_trl(adapted)
    if not isinstance(method, Lora) and not method.autocast_adapter_dtype:
        _cast_adapters_as_trl(adapted)
    return adapted


def _refuse_dropped_targets(model: PeftModel, config: LoraConfig, spec: JobSpec) -> None:
    """Peft leaves out a name that no module has, without a word, where another one has any."""
    if getattr(spec.method, "targets", None) == "all-linear":
        return  # the names are peft's own; it leaves out those in a head that is trained as a whole
    found = cast("list[str]", model.base_model.targeted_module_names)  # a module, by its annotation
    asked = config.target_modules or ()  # without the names that peft has read as those of stacked experts
    dropped = [name for name in sorted(asked) if not any(is_targeted(path, (name,)) for path in found)]
    if dropped:
        raise ConfigError(
            f"targets: {spec.model} has no module {', '.join(map(repr, dropped))}",
            hint="leave out what it does not have, or choose all-linear",
        )


def _refuse_absent_modules(model: PeftModel, names: Iterable[str], spec: JobSpec) -> None:
    """Peft trains those it finds, by the ends of their paths, and says nothing of the others."""
    paths = [
        path.removesuffix(".modules_to_save")
        for path, _ in model.named_modules(remove_duplicate=False)
        if path.endswith(".modules_to_save")
    ]
    absent = [name for name in names if not any(path.endswith(name) for path in paths)]
    if absent:
        raise ConfigError(
            f"modules_to_save: {spec.model} has no module {', '.join(map(repr, absent))}",
            hint="name modules such as embed_tokens or lm_head",
        )


def add_noise(model: torch.nn.Module, alpha: float) -> None:
    """Have NEFTune's noise added to the embeddings' output, as `Trainer(neftune_noise_alpha=...)` does."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    embeddings = cast("PreTrainedModel", base).get_input_embeddings()
    setattr(embeddings, "neftune_noise_alpha", alpha)  # noqa: B010 - where the hook reads it
    embeddings.register_forward_hook(neftune_post_forward_hook)


def _cast_as_trl(model: PeftModel) -> None:
    """What `peft_module_casting_to_bf16` of trl 0.13 does."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.LayerNorm) or "norm" in name:
            module.to(torch.float32)
        elif any(part in name for part in ("lm_head", "embed_tokens", "wte", "wpe")):
            weight = getattr(module, "weight", None)
            if weight is not None and weight.dtype == torch.float32:
                module.to(torch.bfloat16)


def _cast_adapters_as_trl(model: PeftModel) -> None:
    """What trl 1.16's `SFTTrainer` does on quantized weights, whose type peft cannot give to adapters."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_magnitude_vector" not in name:
            parameter.data = parameter.data.to(torch.bfloat16)


def _enable_checkpointing(model: PreTrainedModel, kwargs: dict[str, Any]) -> None:
    # transformers 5.2x renamed it and warns of the old name; peft and older releases know only that.
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=kwargs)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
    if kwargs["use_reentrant"]:
        model.enable_input_require_grads()
