"""Loading the model: `from_pretrained` onto the card, quantized or not, as a user would call it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoConfig, BitsAndBytesConfig

from profiler.errors import ConfigError
from profiler.formula.images import check_images
from profiler.formula.runnable import tokens_of, too_long
from profiler.jobs.choices import Attention, AttentionMask, InferenceQuant, Precision, Task, Weights
from profiler.jobs.job import Full, Inference, Int8Lora, JobSpec, Lora, QLora
from profiler.workload.auto_class import (
    auto_class,
    auto_class_name,
    config_arguments,
    has_class,
    has_labels,
    heads_of,
    name_special_tokens,
)
from profiler.workload.checkpoint import DTYPE_ARGUMENT, write_sparse_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PretrainedConfig, PreTrainedModel

    from profiler.jobs.models import ModelSource


_INCOMPLETE_HINT = "it takes a complete safetensors checkpoint of such a model"

# What is said of a tensor whose shape is not the config's: by transformers, and by accelerate, which sets
# tensors for transformers 4.48.
_OTHER_SHAPES = ("ignore_mismatched_sizes", "Trying to set a tensor of shape")

# What transformers' models call an embedding with one row a position.
_POSITION_TABLES = {"wpe", "embed_positions", "position_embeddings"}


def weight_dtype(precision: Precision) -> torch.dtype:
    """The type the weights are kept in."""
    match precision:
        case Precision.BF16 | Precision.BF16_AUTOCAST:
            return torch.bfloat16
        case Precision.FP16 | Precision.FP16_AUTOCAST:
            return torch.float16
        case Precision.FP32 | Precision.BF16_AMP | Precision.FP16_AMP:
            return torch.float32


def autocast_dtype(precision: Precision) -> torch.dtype | None:
    """The type that autocast computes in; None without autocast."""
    match precision:
        case Precision.BF16_AMP | Precision.BF16_AUTOCAST:
            return torch.bfloat16
        case Precision.FP16_AMP | Precision.FP16_AUTOCAST:
            return torch.float16
        case Precision.FP32 | Precision.BF16 | Precision.FP16:
            return None


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a configuration that is the language model's; up to transformers 4.43 there is no other."""
    ask = getattr(config, "get_text_config", None)
    return config if ask is None else ask()


def load_config(source: ModelSource, spec: JobSpec) -> PretrainedConfig:
    """The model's configuration, from a preset's file, a directory or the Hub.

    Raises:
        ConfigError: it cannot be had, or the task's auto class does not load such a model.
    """
    if source.kind == "preset":
        values = json.loads(Path(source.location).read_text()) | config_arguments(spec)
        preset: PretrainedConfig = AutoConfig.for_model(values.pop("model_type"), **values)
        return preset
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            source.location, revision=source.revision, trust_remote_code=False, **config_arguments(spec)
        )
    except Exception as error:  # it is the user's file that was read, whatever transformers says of it
        raise ConfigError(
            f"the config of {source.location!r} cannot be loaded: {_first_line(error)}",
            hint="check the name; a gated model needs `hf auth login`; offline, use a preset or a directory",
        ) from error
    if not has_class(config, spec.task):
        raise ConfigError(
            f"{source.location!r} is a {config.model_type} model, which has no class for {spec.task}",
            hint=f"the task is measured for models that {auto_class_name(spec.task)} loads",
        )
    return config


def prepare_source(spec: JobSpec, source: ModelSource, config: PretrainedConfig, scratch: Path) -> str:
    """Where `from_pretrained` is to load from: the real checkpoint, or one without data."""
    if spec.weights is Weights.PRETRAINED:
        return source.location
    directory = scratch / "checkpoint"
    directory.mkdir()
    write_sparse_checkpoint(config, directory, task=spec.task, dtype=weight_dtype(spec.precision))
    return str(directory)


def load_model(
    spec: JobSpec, config: PretrainedConfig, location: str, revision: str | None
) -> PreTrainedModel:
    """Load the model onto the first CUDA device, ready for what the job does.

    To train, it is in training mode and its KV cache is off, as `Trainer` sets it.

    Raises:
        ConfigError: the checkpoint is not there, is damaged or does not fit the job.
    """
    arguments: dict[str, Any] = {
        DTYPE_ARGUMENT: weight_dtype(spec.precision),
        "device_map": {"": 0},
        "attn_implementation": spec.attention.value,
        "revision": revision or "main",
        "trust_remote_code": False,
        "use_safetensors": True,
        "output_loading_info": True,
        **config_arguments(spec),
    }
    if (quantization := _quantization(spec)) is not None:
        if has_labels(spec.task):
            # If nothing is said, one with a bias is quantized, which what is in no checkpoint cannot be.
            quantization.llm_int8_skip_modules = heads_of(config, spec.task)
        arguments["quantization_config"] = quantization
    try:
        loaded: Any = auto_class(spec.task).from_pretrained(location, **arguments)
    except Exception as error:
        if (refusal := _explain(error, spec)) is not None:
            raise refusal from error
        raise
    model: PreTrainedModel = loaded[0]
    missing = _missing(model, loaded[1]["missing_keys"], spec.task)
    if spec.weights is Weights.RANDOM:
        _randomize(model)
    elif missing:  # transformers makes them up, and warns
        raise ConfigError(
            f"the checkpoint of {spec.model!r} lacks {len(missing)} tensors, such as {min(missing)}",
            hint=_INCOMPLETE_HINT,
        )
    name_special_tokens(model, spec.task)
    is_trained = not isinstance(spec.method, Inference)
    if is_trained:
        model.config.use_cache = False
    model.train(is_trained)
    return model


def check_positions(model: PreTrainedModel, spec: JobSpec) -> None:
    """Refuse a length beyond a learned table of positions: a real card would fail an assertion on the device.

    Raises:
        ConfigError: the model has fewer positions than the job's length.
    """
    if spec.has_images:
        check_images(spec, model.config.to_dict())
    parts = dict(model.named_modules())
    for name, module in parts.items():
        if name.rsplit(".", 1)[-1] not in _POSITION_TABLES or not isinstance(module, torch.nn.Embedding):
            continue
        if any(hasattr(parts[parent], "patch_embedding") for parent in _parents(name)):
            continue  # of an encoder of images: as many as they have patches
        # BART's and OPT's begin with rows that are no token's; RoBERTa counts from the padding's own.
        first = 0 if module.padding_idx is None else module.padding_idx + 1
        limit = module.num_embeddings - int(getattr(module, "offset", first))
        if tokens_of(spec) > limit:
            raise too_long(spec, limit)


def _parents(path: str) -> Iterator[str]:
    """The modules around one, from the outermost."""
    parts = path.split(".")
    return (".".join(parts[:count]) for count in range(len(parts)))


def _missing(model: PreTrainedModel, missing: set[str], task: Task) -> set[str]:
    """Tensors that a checkpoint should have had: a classifier's head is made with it, and trained."""
    body = f"{model.base_model_prefix}."
    return {name for name in missing if name.startswith(body)} if has_labels(task) else missing


def check_packing(model: PreTrainedModel, spec: JobSpec) -> None:
    """Refuse packed rows that this transformers, or the model, would take for one long row.

    Raises:
        ConfigError: nothing would tell the rows apart.
    """
    if spec.attention_mask is not AttentionMask.PACKED:
        return
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    if not takes_positions or getattr(model, "_is_stateful", False):
        raise ConfigError(
            f"packed rows are one row to {spec.model}, whose layers do not look at position ids",
            hint="choose another --attention-mask",
        )
    if not _masks_packed_rows() and spec.attention is not Attention.FLASH_ATTENTION_2:
        raise ConfigError(
            f"packed rows are one to {spec.attention} attention in transformers {transformers.__version__}",
            hint="choose another --attention-mask, or a newer transformers",
        )


def _masks_packed_rows() -> bool:
    """Whether transformers makes a mask that keeps packed rows apart; FlashAttention-2 needs none."""
    try:
        from transformers.masking_utils import find_packed_sequence_indices  # noqa: F401, PLC0415 - since 4.53
    except ImportError:
        return False
    return True


def _quantization(spec: JobSpec) -> BitsAndBytesConfig | None:
    match spec.method:
        case QLora() as method:
            return _in_4bit(method)
        case Inference(is_4bit=True) as method:
            return _in_4bit(method)
        case Int8Lora() | Inference(quant=InferenceQuant.INT8):
            return BitsAndBytesConfig(load_in_8bit=True)
        case Full() | Lora() | Inference():
            return None


def _in_4bit(method: QLora | Inference) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=method.quant.value,
        bnb_4bit_use_double_quant=method.double_quant,
        bnb_4bit_compute_dtype=getattr(torch, method.compute_dtype.value),
    )


@torch.no_grad()
def _randomize(model: PreTrainedModel) -> None:
    """Draw floating-point weights in place, which allocates nothing; quantized ones stay quantized zeros."""
    std = getattr(text_config(model.config), "initializer_range", 0.02)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.normal_(std=std)


def _explain(error: Exception, spec: JobSpec) -> ConfigError | None:
    """What to tell where loading failed on what the user named; None where the fault is another."""
    if isinstance(error, ValueError) and "attention implementation" in str(error):
        return ConfigError(
            f"{spec.model} has no {spec.attention} attention in transformers {transformers.__version__}",
            hint="choose another, such as --attention eager",
        )
    if any(told in str(error) for told in _OTHER_SHAPES):
        return ConfigError(
            f"the tensors of {spec.model!r} are of other shapes than its config gives", hint=_INCOMPLETE_HINT
        )
    if type(error).__name__ == "SafetensorError" or isinstance(error, OSError | ValueError | ImportError):
        return ConfigError(f"{spec.model!r} cannot be loaded: {_first_line(error)}", hint=_INCOMPLETE_HINT)
    return None


def _first_line(error: Exception) -> str:
    """The first line of an error, and the second where the first only announces it."""
    first, _, rest = str(error).strip().partition("\n")
    if first.endswith(":"):
        first = f"{first} {rest.strip().partition(chr(10))[0]}"
    return first or type(error).__name__
