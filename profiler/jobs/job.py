"""What one job is, fine-tuning or inference: a frozen, validated value.

`flags` makes the flags of the command line from these fields and what `Attributes` says of them: the words in
brackets stand for a value, and choices and defaults come by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from profiler.jobs.alloc_conf import format_alloc_conf, parse_alloc_conf
from profiler.jobs.choices import (
    Attention,
    AttentionMask,
    ComputeDtype,
    InferenceQuant,
    Loop,
    Loss,
    Optimizer,
    Precision,
    Quant,
    Task,
    Weights,
)
from profiler.units import TIB, parse_bytes
from profiler.values import MAX_INT, Value

SPEC_ERROR = "spec"
"""The pydantic error type of this module's own checks; its context holds `message` and `hint`."""

MAX_TOKENS = 16_777_216
_MAX_PIXELS = 16_384

_REAL_GPU = re.compile(r"real(:\d+)?", re.ASCII)


def _refuse(message: str, *, hint: str) -> PydanticCustomError:
    return PydanticCustomError(SPEC_ERROR, "{message}", {"message": message, "hint": hint})


def _read_targets(value: object) -> object:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise _refuse(f"{value!r} is no list of module names", hint="write all-linear, or q_proj,v_proj")
    stripped = {name.strip() for name in names}
    if not stripped or "" in stripped:
        raise _refuse("a module name is empty", hint="write all-linear, or q_proj,v_proj")
    if stripped == {"all-linear"}:
        return "all-linear"
    if "all-linear" in stripped:
        raise _refuse("all-linear stands alone", hint="leave out the other names, or all-linear")
    return tuple(sorted(stripped))  # peft takes a set: order must not make two jobs of one


def _read_names(value: object) -> object:
    given = () if value in ("", None) else value
    names = given.split(",") if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(
        isinstance(name, str) and name.strip() for name in names
    ):
        raise _refuse(f"{value!r} is no list of module names", hint="write embed_tokens,lm_head")
    return tuple(sorted({name.strip() for name in names}))  # peft finds them in the model's order


def _read_method(value: object) -> object:
    if isinstance(value, str):
        return {"kind": value}
    if not isinstance(value, Mapping | Value):
        raise _refuse(f"{value!r} is no method", hint="write a method's name, or its keys and values")
    return value


def _read_checkpointing(value: object) -> object:
    if isinstance(value, bool):
        return {"enabled": value}
    if not isinstance(value, Mapping | Value):
        raise _refuse(f"{value!r} is neither true nor false", hint="write true, false or {reentrant: true}")
    return value


def _read_size(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_bytes(value)
    except ValueError as error:
        raise _refuse(str(error), hint="a size in bytes, or a text such as 48GiB") from None


def num_padded(length: int) -> int:
    """Tokens of a padded row that are padding: the last quarter, one at least."""
    return max(1, length // 4)


Flag: TypeAlias = Annotated[bool, Field(strict=True)]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=MAX_INT)]
Targets: TypeAlias = Annotated[Literal["all-linear"] | tuple[str, ...], BeforeValidator(_read_targets)]


class GradientCheckpointing(Value):
    """Whether blocks are recomputed in the backward pass, and by which of torch's two implementations.

    Attributes:
        enabled: recompute activations in backward.
        reentrant: use torch's older, reentrant checkpointing.
    """

    enabled: Flag = True
    reentrant: Flag = False

    @model_validator(mode="after")
    def _check_reentrant(self) -> Self:
        if self.reentrant and not self.enabled:
            raise _refuse("reentrant needs gradient checkpointing on", hint="turn it on, or drop reentrant")
        return self


class _LoraPart(Value):
    """What every method with low-rank adapters has.

    Attributes:
        rank (R): rank of the adapters.
        alpha (A): scale of the adapters.
        dropout (P): dropout before the adapters.
        targets (NAMES): modules with adapters: all-linear, or a list such as q_proj,v_proj.
        use_dora: train the weights' magnitudes too, as DoRA does.
        use_rslora: scale adapters by the root of their rank, as rsLoRA does.
        modules_to_save (NAMES): modules trained whole beside the adapters, such as embed_tokens,lm_head.
        autocast_adapter_dtype: keep adapters in float32; off, in the weights' type, on quantized weights in
            bfloat16, as trl casts them.
    """

    rank: Count = 16
    alpha: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    targets: Targets = "all-linear"
    use_dora: Flag = False
    use_rslora: Flag = False
    modules_to_save: Annotated[tuple[str, ...], BeforeValidator(_read_names)] = ()
    autocast_adapter_dtype: Flag = True


class Full(Value):
    """Every weight is trained."""

    kind: Literal["full"] = "full"


class Lora(_LoraPart):
    """Low-rank adapters are trained on frozen weights of the job's precision."""

    kind: Literal["lora"] = "lora"


class QLora(_LoraPart):
    """Low-rank adapters are trained on frozen 4-bit weights (bitsandbytes).

    trl's cast comes once the adapters are in: the norms become float32; the embeddings and the output layer,
    which k-bit preparation has made float32, are bfloat16 again.

    Attributes:
        quant (TYPE): 4-bit type of the weights.
        double_quant: quantize the quantization constants too.
        compute_dtype (TYPE): what 4-bit weights are multiplied as.
        kbit_prepare: call peft's prepare_model_for_kbit_training.
        trl_casting: cast a prepared 4-bit model as trl's SFTTrainer(bf16=True) does.
    """

    kind: Literal["qlora"] = "qlora"
    quant: Quant = Quant.NF4
    double_quant: Flag = True
    compute_dtype: ComputeDtype = ComputeDtype.BFLOAT16
    kbit_prepare: Flag = True
    trl_casting: Flag = False


class Int8Lora(_LoraPart):
    """Low-rank adapters are trained on frozen 8-bit weights (bitsandbytes LLM.int8())."""

    kind: Literal["int8-lora"] = "int8-lora"
    kbit_prepare: Flag = True


class Inference(Value):
    """Nothing is trained: tokens are generated greedily from a prompt of `seq_len` tokens, with a KV cache.

    `double_quant` and `compute_dtype` are for 4-bit weights only. New tokens are counted as
    `generate(max_new_tokens=...)` does: the prompt's pass gives the first one.

    Attributes:
        new_tokens: tokens that inference generates after the prompt.
    """

    kind: Literal["inference"] = "inference"
    quant: InferenceQuant = InferenceQuant.NONE
    double_quant: Flag = True
    compute_dtype: ComputeDtype = ComputeDtype.BFLOAT16
    new_tokens: Annotated[Count, Field(le=MAX_TOKENS)] = 32

    @property
    def is_4bit(self) -> bool:
        """Whether the weights are of a 4-bit type."""
        return self.quant in (InferenceQuant.NF4, InferenceQuant.FP4)

    @model_validator(mode="after")
    def _check_quant(self) -> Self:
        for key in ("double_quant", "compute_dtype"):
            # One job must not have two keys: what means nothing stands at its default.
            if not self.is_4bit and getattr(self, key) != type(self).model_fields[key].default:
                raise _refuse(
                    f"{key} is for 4-bit weights, not for quant {str(self.quant)!r}",
                    hint="leave it out, or choose quant nf4 or fp4",
                )
        return self


Method: TypeAlias = Annotated[Full | Lora | QLora | Int8Lora | Inference, Field(discriminator="kind")]
METHODS: dict[str, type[Full | Lora | QLora | Int8Lora | Inference]] = {
    kind.model_fields["kind"].default: kind for kind in (Full, Lora, QLora, Int8Lora, Inference)
}
DEFAULT_METHOD = "qlora"
"""The method that a key such as `method.rank` alone is about."""
SHORT_FOR: Mapping[str, str] = MappingProxyType({"method": "kind", "gradient_checkpointing": "enabled"})
"""The key of each part that a plain value in the part's place is about."""
FLOAT32_WEIGHTS = (Precision.FP32, Precision.BF16_AMP, Precision.FP16_AMP)
"""Precisions that keep the weights in float32."""
EVALUATION_KEYS = ("eval_batch_size", "eval_accumulation_steps", "prediction_loss_only")
"""Keys that mean nothing to a job that evaluates no batch; it has them at their defaults."""
TRAINING_KEYS = (
    *("optimizer", "foreach", "accumulation", "gradient_checkpointing", "neftune_alpha"),
    *("loss", "loop", "steps", "eval_batches", *EVALUATION_KEYS, "save"),
)
"""Keys that mean nothing to a job that trains nothing; it has them at their defaults."""
TASK_KEYS: Mapping[str, tuple[Task, ...]] = MappingProxyType(
    {
        "num_labels": (Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION),
        "target_len": (Task.SEQ2SEQ_LM,),
        "images": (Task.IMAGE_TEXT_TO_TEXT,),
        "image_size": (Task.IMAGE_TEXT_TO_TEXT,),
    }
)
"""Keys of some tasks alone; a job of another has them at their defaults.

A job that has one and names no task is of the first that it belongs to.
"""


class JobSpec(Value):
    """One job: everything that decides how much memory it takes.

    Step 0 of the training creates the optimizer's state. Without a revision it is a model's default branch.

    Attributes:
        model: a preset (`peakvram models`), a Hub id or a local directory.
        revision: branch, tag or commit of a Hub model.
        weights (KIND): random (from the config, nothing is downloaded) or pretrained.
        task: causal-lm, sequence-classification, token-classification, seq2seq-lm or image-text-to-text;
            without it what the model is for.
        precision (TYPE): fp32, bf16, fp16; float32 weights under autocast: bf16-amp, fp16-amp; 16-bit ones
            under it: bf16-autocast, fp16-autocast.
        optimizer: a name of transformers.
        foreach: have torch's optimizer step through all tensors of a group at once.
        batch_size: rows a step, or a micro batch.
        accumulation: micro batches a step, whose gradients are accumulated.
        seq_len: tokens a row, its images' among them, or of inference's prompt.
        target_len: tokens a row of the decoder in seq2seq-lm; without it seq_len.
        num_labels: classes of sequence- and token-classification; 1 is a regression, or a reward.
        images: images a row in image-text-to-text.
        image_size: pixels a side of an image, as it is given to the model's processor.
        neftune_alpha (A): scale of the noise that NEFTune adds to embeddings; 0 for none.
        attention: eager, sdpa or flash_attention_2; without it a model that lacks sdpa takes eager.
        attention_mask (KIND): what a batch carries: none, full (all ones), padded; or packed, rows in one.
        loss (KIND): full (from all logits) or chunked: trl's, which makes a tile of them at a time.
        loop (KIND): plain (logits live through the backward pass) or trainer, which drops them.
        steps: training steps to run.
        eval_batches: batches that transformers' Trainer evaluates after the last step.
        eval_batch_size: rows of such a batch.
        eval_accumulation_steps: batches whose logits stay on the card until they go to the host; without it
            all do.
        prediction_loss_only: keep no logits of the evaluated batches, as a Trainer without metrics.
        save: write the model after the last step, as Trainer.save_model does.
        alloc_conf (CONF): PYTORCH_ALLOC_CONF of the job, key:value,...
        gpu: auto, real, real:INDEX, or a card of `peakvram gpus`, which is then virtual.
        gpu_memory_bytes: capacity of the virtual card, such as 2TiB, in place of its own.
    """

    model: Annotated[str, Field(min_length=1)]
    revision: Annotated[str, Field(min_length=1)] | None = None
    weights: Weights = Weights.RANDOM
    task: Task = Task.CAUSAL_LM
    method: Annotated[Method, BeforeValidator(_read_method)] = METHODS[DEFAULT_METHOD]()
    precision: Precision = Precision.BF16
    optimizer: Optimizer = Optimizer.ADAMW_TORCH
    foreach: Flag = True
    batch_size: Annotated[Count, Field(le=65_536)] = 1
    accumulation: Annotated[Count, Field(le=1000)] = 1
    seq_len: Annotated[Count, Field(le=MAX_TOKENS)] = 2048
    target_len: Annotated[Count, Field(le=MAX_TOKENS)] | None = None
    num_labels: Annotated[Count, Field(le=1_000_000)] = 2
    images: Annotated[int, Field(strict=True, ge=0, le=1024)] = 1
    image_size: Annotated[Count, Field(le=_MAX_PIXELS)] = 448
    gradient_checkpointing: Annotated[GradientCheckpointing, BeforeValidator(_read_checkpointing)] = (
        GradientCheckpointing()
    )
    neftune_alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    attention: Attention = Attention.SDPA
    attention_mask: AttentionMask = AttentionMask.FULL
    loss: Loss = Loss.FULL
    loop: Loop = Loop.PLAIN
    steps: Annotated[Count, Field(le=1000)] = 3
    eval_batches: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    eval_batch_size: Annotated[Count, Field(le=65_536)] = 8
    eval_accumulation_steps: Annotated[Count, Field(le=1000)] | None = None
    prediction_loss_only: Flag = False
    save: Flag = False
    alloc_conf: str = ""
    gpu: Annotated[str, Field(min_length=1)] = "auto"
    # A process has 128 TiB of addresses on x86-64: half of that is room for any card, and for the rest.
    gpu_memory_bytes: Annotated[
        Annotated[int, Field(strict=True, ge=1, le=64 * TIB)] | None, BeforeValidator(_read_size)
    ] = None

    @property
    def is_real_gpu_asked(self) -> bool:
        """Whether the job names a real card (`real`, `real:INDEX`), not a virtual one and not `auto`."""
        return _REAL_GPU.fullmatch(self.gpu) is not None

    @property
    def decoder_len(self) -> int:
        """Tokens a row of the decoder, which in all tasks but seq2seq-lm is the whole model."""
        return self.target_len or self.seq_len

    @property
    def has_images(self) -> bool:
        """Whether there are images in a batch."""
        return self.task is Task.IMAGE_TEXT_TO_TEXT and self.images > 0

    @model_validator(mode="before")
    @classmethod
    def _read_task(cls, values: object) -> object:
        if not isinstance(values, Mapping) or "task" in values:
            return values
        of = next((tasks[0] for key, tasks in TASK_KEYS.items() if key in values), None)
        return values if of is None else {**values, "task": of}

    @field_validator("alloc_conf")
    @classmethod
    def _check_alloc_conf(cls, value: str) -> str:
        try:
            options = parse_alloc_conf(value)
        except ValueError as error:
            raise _refuse(
                str(error), hint="write key:value,key:value as PYTORCH_ALLOC_CONF takes it"
            ) from None
        if options.get("backend", "native") != "native":
            raise _refuse(
                f"the allocator backend {options['backend']!r} keeps no figures of blocks to read",
                hint="only torch's native allocator can be measured",
            )
        return format_alloc_conf(options)

    @field_validator("gpu")
    @classmethod
    def _check_gpu(cls, value: str) -> str:
        if value.startswith("real:") and _REAL_GPU.fullmatch(value) is None:
            raise _refuse(f"{value!r} names no card", hint="write real:0 for the first card that CUDA sees")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.attention_mask is AttentionMask.PADDED and self.seq_len == 1:
            raise _refuse("a padded batch needs seq_len above 1", hint="a row of one token has none to pad")
        if self.gpu_memory_bytes is not None and self.is_real_gpu_asked:
            raise _refuse(
                f"gpu_memory_bytes applies to a virtual card only, not to gpu {self.gpu!r}",
                hint="name a card of the catalogue, such as rtx-4090",
            )
        if not self.foreach and self.optimizer not in (Optimizer.ADAMW_TORCH, Optimizer.SGD):
            raise _refuse(
                f"optimizer {str(self.optimizer)!r} does not step through tensors with foreach",
                hint="leave foreach as it is, or choose adamw_torch or sgd",
            )
        if isinstance(self.method, Full) and self.precision is Precision.FP16_AUTOCAST:
            raise _refuse(
                "fp16-autocast scales the loss, and torch unscales no float16 gradients, which full has",
                hint="choose fp16-amp, or a LoRA method, whose adapters are float32",
            )
        return self

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        for key, tasks in TASK_KEYS.items():
            if self.task not in tasks and getattr(self, key) != type(self).model_fields[key].default:
                raise _refuse(
                    f"{key} does not apply to task {str(self.task)!r}",
                    hint=f"leave it out, or choose task {' or '.join(tasks)}",
                )
        for key, value in (("attention_mask", AttentionMask.PACKED), ("loss", Loss.CHUNKED)):
            if self.task is not Task.CAUSAL_LM and getattr(self, key) is value:
                raise _refuse(
                    f"{key} {str(value)!r} is for causal language models, not for task {str(self.task)!r}",
                    hint=f"leave {key} out",
                )
        return self

    @model_validator(mode="after")
    def _check_adapter_dtype(self) -> Self:
        if getattr(self.method, "autocast_adapter_dtype", True):
            return self
        if isinstance(self.method, Lora) and self.precision in FLOAT32_WEIGHTS:
            raise _refuse(
                f"autocast_adapter_dtype off changes nothing with {self.precision}: weights are float32",
                hint="leave it out, or choose bf16, fp16 or bf16-autocast",
            )
        if not isinstance(self.method, Lora) and "fp16" in self.precision:
            raise _refuse(
                f"trl casts adapters of quantized weights to bfloat16, which is not for {self.precision}",
                hint="choose bf16 or bf16-autocast, or leave out autocast_adapter_dtype",
            )
        if self.precision is Precision.FP16_AUTOCAST:
            raise _refuse(
                "fp16-autocast scales the loss, and torch unscales no gradients of float16 adapters",
                hint="leave out autocast_adapter_dtype, so that adapters are float32",
            )
        return self

    @model_validator(mode="after")
    def _check_evaluation(self) -> Self:
        for key in EVALUATION_KEYS:
            if self.eval_batches == 0 and getattr(self, key) != type(self).model_fields[key].default:
                raise _refuse(
                    f"{key} is for evaluation, and eval_batches is 0",
                    hint="leave it out, or set eval_batches to the number of batches to evaluate",
                )
        return self

    @model_validator(mode="after")
    def _check_inference(self) -> Self:
        if not isinstance(self.method, Inference):
            return self
        if self.task is not Task.CAUSAL_LM:
            raise _refuse(
                f"method 'inference' generates with a causal language model, not for task {str(self.task)!r}",
                hint="leave task out, or choose a method that trains",
            )
        for key in TRAINING_KEYS:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise _refuse(
                    f"{key} does not apply to method 'inference', which trains nothing", hint="leave it out"
                )
        if self.attention_mask in (AttentionMask.NONE, AttentionMask.PACKED):
            raise _refuse(
                f"attention_mask {self.attention_mask} does not apply to method 'inference'",
                hint="generate() makes a mask of ones where it is given none: leave it out",
            )
        return self
