"""What one job is, fine-tuning or inference: a frozen, validated value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from profiler.jobs.alloc_conf import format_alloc_conf, parse_alloc_conf
from profiler.jobs.choices import (
    Attention,
    AttentionMask,
    ComputeDtype,
    InferenceQuant,
    Loop,
    Optimizer,
    Precision,
    Quant,
    Weights,
)
from profiler.units import TIB, parse_bytes
from profiler.values import MAX_INT

SPEC_ERROR = "spec"
"""The pydantic error type of this module's own checks; its context holds `message` and `hint`."""

MAX_TOKENS = 16_777_216

_REAL_GPU = re.compile(r"real(:\d+)?", re.ASCII)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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


def _read_method(value: object) -> object:
    if isinstance(value, str):
        return {"kind": value}
    if not isinstance(value, Mapping | _Part):
        raise _refuse(f"{value!r} is no method", hint="write a method's name, or its keys and values")
    return value


def _read_checkpointing(value: object) -> object:
    if isinstance(value, bool):
        return {"enabled": value}
    if not isinstance(value, Mapping | _Part):
        raise _refuse(f"{value!r} is neither true nor false", hint="write true, false or {reentrant: true}")
    return value


def _read_size(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_bytes(value)
    except ValueError as error:
        raise _refuse(str(error), hint="a size in bytes, or a text such as 48GiB") from None


Flag: TypeAlias = Annotated[bool, Field(strict=True)]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=MAX_INT)]
Targets: TypeAlias = Annotated[Literal["all-linear"] | tuple[str, ...], BeforeValidator(_read_targets)]


class GradientCheckpointing(_Part):
    """Whether blocks are recomputed in the backward pass, and by which of torch's two implementations."""

    enabled: Flag = True
    reentrant: Flag = False

    @model_validator(mode="after")
    def _check_reentrant(self) -> Self:
        if self.reentrant and not self.enabled:
            raise _refuse("reentrant needs gradient checkpointing on", hint="turn it on, or drop reentrant")
        return self


class _LoraPart(_Part):
    rank: Count = 16
    alpha: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    targets: Targets = "all-linear"
    use_dora: Flag = False
    use_rslora: Flag = False


class Full(_Part):
    """Every weight is trained."""

    kind: Literal["full"] = "full"


class Lora(_LoraPart):
    """Low-rank adapters are trained on frozen weights of the job's precision."""

    kind: Literal["lora"] = "lora"


class QLora(_LoraPart):
    """Low-rank adapters are trained on frozen 4-bit weights (bitsandbytes).

    Attributes:
        trl_casting: once the adapters are in, cast as trl's `SFTTrainer(bf16=True)` does: the norms to
            float32, the embeddings and the output layer, which k-bit preparation has made float32, back to
            bfloat16.
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


class Inference(_Part):
    """Nothing is trained: tokens are generated greedily from a prompt of `seq_len` tokens, with a KV cache.

    Attributes:
        double_quant: as of `QLora`; for 4-bit weights only, like `compute_dtype`.
        new_tokens: as `generate(max_new_tokens=...)` counts them: the prompt's pass gives the first one.
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
TRAINING_KEYS = ("optimizer", "gradient_checkpointing", "loop", "steps")
"""Keys that mean nothing to a job that trains nothing; it has them at their defaults."""


class JobSpec(_Part):
    """One job: everything that decides how much memory it takes.

    Attributes:
        model: a preset id, a Hub id or a local directory.
        revision: the Hub revision of the model; None is its default branch.
        seq_len: tokens a row; of the prompt where the method is inference.
        steps: how many training steps are run; step 0 creates the optimizer's state.
        alloc_conf: `PYTORCH_ALLOC_CONF` of the process that runs the job.
        gpu: `auto`, `real`, `real:INDEX` or the id of a card in the catalogue, which is then virtual.
        gpu_memory_bytes: capacity of the virtual card in place of the catalogue's; None keeps that.
    """

    model: Annotated[str, Field(min_length=1)]
    revision: Annotated[str, Field(min_length=1)] | None = None
    weights: Weights = Weights.RANDOM
    method: Annotated[Method, BeforeValidator(_read_method)] = QLora()
    precision: Precision = Precision.BF16
    optimizer: Optimizer = Optimizer.ADAMW_TORCH
    batch_size: Annotated[Count, Field(le=65_536)] = 1
    seq_len: Annotated[Count, Field(le=MAX_TOKENS)] = 2048
    gradient_checkpointing: Annotated[GradientCheckpointing, BeforeValidator(_read_checkpointing)] = (
        GradientCheckpointing()
    )
    attention: Attention = Attention.SDPA
    attention_mask: AttentionMask = AttentionMask.FULL
    loop: Loop = Loop.PLAIN
    steps: Annotated[Count, Field(le=1000)] = 3
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
        if isinstance(self.method, Full) and self.precision is Precision.FP16_AUTOCAST:
            raise _refuse(
                "fp16-autocast scales the loss, and torch unscales no float16 gradients, which full has",
                hint="choose fp16-amp, or a LoRA method, whose adapters are float32",
            )
        return self

    @model_validator(mode="after")
    def _check_inference(self) -> Self:
        if not isinstance(self.method, Inference):
            return self
        for key in TRAINING_KEYS:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise _refuse(
                    f"{key} does not apply to method 'inference', which trains nothing", hint="leave it out"
                )
        if self.attention_mask is AttentionMask.NONE:
            raise _refuse(
                "attention_mask none does not apply to method 'inference'",
                hint="generate() makes a mask of ones where it is given none: leave it out",
            )
        return self
