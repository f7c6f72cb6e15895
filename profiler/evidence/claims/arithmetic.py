"""What arithmetic can say of a claim: a few named calculators, each of which shows its working."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import ValidationError, validate_call

from profiler.errors import ConfigError
from profiler.evidence.claims.figures import Unit
from profiler.formula.configs import architecture_of
from profiler.hardware.catalogue import find_gpu
from profiler.jobs.presets import list_presets, read_config_file
from profiler.jobs.problems import nearest_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from profiler.jobs.presets import Preset


class Calculation(StrEnum):
    """What can be computed.

    `product` is of the author's own numbers, `weights` of a model's parameters or of a number of them; the
    others take models and cards by their ids.
    """

    PRODUCT = "product"
    PARAMETERS = "parameters"
    WEIGHTS = "weights"
    KV_CACHE = "kv-cache"
    KV_CACHE_GROWTH = "kv-cache-growth"
    WEIGHTS_AND_CACHE = "weights-and-cache"
    LORA_PARAMETERS = "lora-parameters"
    LORA_FILE = "lora-file"
    HELD_TO_ACTIVE = "held-to-active"
    CUDA_CONTEXT = "cuda-context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """A result and how it was come by.

    Attributes:
        value: whole bytes, whole parameters, or a ratio.
        working: the sum as it would be written out.
    """

    value: float
    working: str


def calculate(calculator: Calculation, arguments: Mapping[str, object]) -> tuple[Worked, ...]:
    """Every combination of the arguments that are lists, the last one fastest.

    Raises:
        ConfigError: if the calculator takes no such arguments.
    """
    _, function = _CALCULATORS[calculator]
    try:
        return tuple(function(**point) for point in _points(arguments))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{calculator}: {where}: {first['msg']}", hint="see docs/claims.md") from None


def calculated_unit(calculator: Calculation) -> Unit:
    """What a calculator's result is counted in."""
    return _CALCULATORS[calculator][0]


def _points(arguments: Mapping[str, object]) -> Iterator[dict[str, object]]:
    columns = [
        value if isinstance(value, list) and name != "of" else [value] for name, value in arguments.items()
    ]
    for values in itertools.product(*columns):
        yield dict(zip(arguments, values, strict=True))


@validate_call
def _product(of: list[float]) -> Worked:
    """The product of the author's own numbers, in bytes."""
    return Worked(
        value=round(math.prod(of)),
        working=" x ".join(f"{factor:,g}" if factor < 1e6 else f"{factor:.4g}" for factor in of) + " B",
    )


@validate_call
def _parameters(model: str) -> Worked:
    count = _preset(model).num_parameters
    return Worked(value=count, working=f"{model}: {count:,} parameters")


@validate_call
def _weights(*, model: str | None = None, parameters: float | None = None, bits: float) -> Worked:
    """Parameters times bits a parameter: of a preset, or of a count where no preset has it."""
    count, name = _count(model, parameters)
    return Worked(value=round(count * bits / 8), working=f"{name} x {bits:g} bits")


@validate_call
def _kv_cache(*, model: str, batch_size: int = 1, seq_len: int, bits: float = 16) -> Worked:
    """Keys and values of all layers: 2 x layers x key/value heads x head width x tokens x bytes."""
    shape = _preset(model).architecture
    head_dim = shape.hidden_size // shape.num_heads
    value = 2 * shape.num_layers * shape.num_kv_heads * head_dim * batch_size * seq_len * bits / 8
    tokens = f"{seq_len:,} tokens" if batch_size == 1 else f"{batch_size} x {seq_len:,} tokens"
    working = (
        f"{model}: 2 x {shape.num_layers} layers x {shape.num_kv_heads} key/value heads x {head_dim} "
        f"x {tokens} x {bits / 8:g} B"
    )
    return Worked(value=round(value), working=working)


@validate_call
def _kv_cache_growth(*, model: str, from_tokens: int, to_tokens: int) -> Worked:
    """How many times larger a cache of all tokens becomes."""
    before, after = (_kv_cache(model=model, seq_len=n) for n in (from_tokens, to_tokens))
    working = (
        f"{model}: cache of {to_tokens:,} tokens through that of {from_tokens:,}, which is {before.working}"
    )
    return Worked(value=after.value / before.value, working=working)


@validate_call
def _weights_and_cache(  # noqa: PLR0913 - the arguments of its two parts
    *,
    model: str | None = None,
    parameters: float | None = None,
    bits: float,
    cache_model: str,
    seq_len: int,
    batch_size: int = 1,
) -> Worked:
    """What inference holds at least: its weights, and a 16-bit cache of a model of the shapes given."""
    weights = _weights(model=model, parameters=parameters, bits=bits)
    cache = _kv_cache(model=cache_model, seq_len=seq_len, batch_size=batch_size)
    return Worked(value=weights.value + cache.value, working=f"{weights.working} + cache of {cache.working}")


@validate_call
def _lora_parameters(*, model: str, rank: int, targets: str) -> Worked:
    """Elements of A (rank x in) and B (out x rank) of every adapted layer (Hu et al. 2021, section 4.1)."""
    shape = architecture_of(model)
    known = {linear.name for linear in shape.linears}
    names = known if targets == "all-linear" else set(targets.split(","))
    if names - known:
        unknown = min(names - known)
        raise ConfigError(
            f"{model} has no linear layer {unknown!r}", hint=nearest_hint(unknown, sorted(known))
        )
    width = sum(linear.in_features + linear.out_features for linear in shape.linears if linear.name in names)
    working = f"{model}, {targets}: rank {rank} x {shape.num_layers} layers x {width:,} (in + out)"
    return Worked(value=rank * width * shape.num_layers, working=working)


@validate_call
def _lora_file(*, model: str, rank: int, targets: str, bits: float) -> Worked:
    """The size of a saved adapter."""
    count = _lora_parameters(model=model, rank=rank, targets=targets)
    return Worked(value=round(count.value * bits / 8), working=f"{count.working} x {bits / 8:g} B")


@validate_call
def _held_to_active(model: str) -> Worked:
    """All parameters of a mixture of experts through those one token uses."""
    preset = _preset(model)
    config = read_config_file(preset.config_path)
    width = config.get("moe_intermediate_size") or config["intermediate_size"]
    experts = config.get("num_local_experts") or config["num_experts"]
    idle = int(str(experts)) - int(str(config["num_experts_per_tok"]))
    shape = preset.architecture
    num_idle = idle * 3 * shape.hidden_size * int(str(width)) * shape.num_layers
    active = preset.num_parameters - num_idle
    working = f"{model}: {preset.num_parameters:,} parameters through {active:,} active ones"
    return Worked(value=preset.num_parameters / active, working=working)


@validate_call
def _cuda_context(gpu: str) -> Worked:
    """What the catalogue of cards says of a CUDA context, with its source there."""
    card = find_gpu(gpu)
    basis = "published reading" if card.context_is_measured else "assumption, from its generation"
    return Worked(value=card.context_bytes, working=f"{gpu}: {basis}")


def _count(model: str | None, parameters: float | None) -> tuple[int, str]:
    if model is not None:
        count = _preset(model).num_parameters
        return count, f"{model}: {count:,} parameters"
    if parameters is None:
        raise ConfigError(
            "weights: neither a model nor a count of parameters is named", hint="see docs/claims.md"
        )
    return round(parameters), f"{round(parameters):,} parameters"


def _preset(model: str) -> Preset:
    preset = next((preset for preset in list_presets() if preset.id == model), None)
    if preset is None:
        raise ConfigError(f"there is no preset {model!r}", hint="`peakvram models` lists them")
    return preset


_CALCULATORS: Mapping[Calculation, tuple[Unit, Callable[..., Worked]]] = {
    Calculation.PRODUCT: (Unit.BYTES, _product),
    Calculation.PARAMETERS: (Unit.PARAMETERS, _parameters),
    Calculation.WEIGHTS: (Unit.BYTES, _weights),
    Calculation.KV_CACHE: (Unit.BYTES, _kv_cache),
    Calculation.KV_CACHE_GROWTH: (Unit.RATIO, _kv_cache_growth),
    Calculation.WEIGHTS_AND_CACHE: (Unit.BYTES, _weights_and_cache),
    Calculation.LORA_PARAMETERS: (Unit.PARAMETERS, _lora_parameters),
    Calculation.LORA_FILE: (Unit.BYTES, _lora_file),
    Calculation.HELD_TO_ACTIVE: (Unit.RATIO, _held_to_active),
    Calculation.CUDA_CONTEXT: (Unit.BYTES, _cuda_context),
}
