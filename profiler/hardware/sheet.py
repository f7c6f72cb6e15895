"""What the file of one GPU may say: figures, each with its source or the reason why it is unknown."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import Discriminator, Field, Tag, model_validator

from profiler.values import Value

T = TypeVar("T")

Text: TypeAlias = Annotated[str, Field(strict=True, min_length=1)]
Count: TypeAlias = Annotated[int, Field(strict=True, gt=0)]
Capability: TypeAlias = Annotated[str, Field(strict=True, pattern=r"^[0-9]{1,2}\.[0-9]$")]

KNOWN, UNKNOWN = "known", "unknown"
"""The tags that tell the two kinds of figure apart; they appear in pydantic's error paths, not in files."""


class Generation(StrEnum):
    """The architecture NVIDIA names a card's chip after."""

    AMPERE = "ampere"
    ADA = "ada"
    HOPPER = "hopper"
    BLACKWELL = "blackwell"


class Known(Value, Generic[T]):
    """A figure with the public place it was read.

    Attributes:
        value: the figure.
        source: the public thread, page or document it comes from.
        note: how exact it is, and what other sources say.
    """

    value: T
    source: Text
    note: Text | None = None


class Unknown(Value):
    """A figure nobody published, as far as we found.

    Attributes:
        value: always `null`.
        reason: why it is not known.
    """

    value: None
    reason: Text


def _kind(raw: object) -> str:
    value = raw.get("value") if isinstance(raw, dict) else getattr(raw, "value", None)
    return UNKNOWN if value is None else KNOWN


MaybeCount: TypeAlias = Annotated[
    Annotated[Known[Count], Tag(KNOWN)] | Annotated[Unknown, Tag(UNKNOWN)], Discriminator(_kind)
]


class Context(Value):
    """What the CUDA context takes: bytes used on the device less the bytes torch's allocator reserved.

    Attributes:
        measured: the figure read on this very card, or why there is none.
        low_bytes: the low end of the spread.
        typical_bytes: the figure used; the measured one where there is one.
        high_bytes: the high end of the spread.
        basis: `measured` on this card, or an `assumption` carried over from another one.
        source: where the figure used was read.
        note: what it was read on, and what moves it.
    """

    measured: MaybeCount
    low_bytes: Count
    typical_bytes: Count
    high_bytes: Count
    basis: Literal["measured", "assumption"]
    source: Text
    note: Text

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if not self.low_bytes <= self.typical_bytes <= self.high_bytes:
            raise ValueError("low_bytes <= typical_bytes <= high_bytes does not hold")
        if self.measured.value != (self.typical_bytes if self.basis == "measured" else None):
            raise ValueError(
                "basis 'measured' needs the measured value as typical_bytes; 'assumption' needs it null"
            )
        return self


class Sheet(Value):
    """The file of one GPU. `docs/gpus.md` says what each figure means and how to read it off a card.

    Attributes:
        marketing_name: the name CUDA reports (`torch.cuda.get_device_name`).
        generation: the architecture.
        marketing_bytes: the size on the box, GB taken as 2^30.
        total_bytes: the total memory CUDA reports (`cudaMemGetInfo`); what a job can fill at most.
        nvml_total_bytes: the total memory NVML and `nvidia-smi` report, with the driver's reserved part.
        compute_capability: such as "8.9".
        num_sms: streaming multiprocessors.
        max_shared_memory_per_block_optin_bytes: shared memory one block may ask for.
        shared_memory_per_sm_bytes: shared memory of one multiprocessor.
        l2_cache_bytes: the level-2 cache.
        max_threads_per_sm: resident threads of one multiprocessor.
        max_blocks_per_sm: resident blocks of one multiprocessor.
        memory_bus_width_bits: the memory bus.
        context: the CUDA context.
    """

    marketing_name: Known[Text]
    generation: Known[Generation]
    marketing_bytes: Known[Count]
    total_bytes: Known[Count]
    nvml_total_bytes: MaybeCount
    compute_capability: Known[Capability]
    num_sms: Known[Count]
    max_shared_memory_per_block_optin_bytes: Known[Count]
    shared_memory_per_sm_bytes: Known[Count]
    l2_cache_bytes: MaybeCount
    max_threads_per_sm: Known[Count]
    max_blocks_per_sm: Known[Count]
    memory_bus_width_bits: MaybeCount
    context: Context
