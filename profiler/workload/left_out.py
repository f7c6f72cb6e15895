"""Which parameters of a model are not quantized, and which get no adapter under `all-linear`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from profiler.jobs.targets import is_targeted
from profiler.measure.components import (
    adapter_prefix,
    is_of_adapter,
    is_quantized_weight,
    num_elements,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from peft import PeftModel

_NAMED = 4
_WORTH_NAMING = 0.01
"""Kinds with a smaller share of what is left out are not named."""
_OF_WRAPPERS = {"base_model", "base_layer", "original_module", "modules_to_save", "default", "weight"}
"""Parts of a parameter's path that are peft's, or say nothing."""
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Untouched:
    """Parameters that something does not apply to.

    Attributes:
        named: they, by their paths.
        num_elements: of them together.
        num_all: elements of all parameters of the model, packed ones unpacked and without adapters.
    """

    named: tuple[tuple[str, torch.nn.Parameter], ...]
    num_elements: int
    num_all: int

    @property
    def bytes(self) -> int:
        """Bytes of all of them, as they are now."""
        return sum(parameter.nbytes for _, parameter in self.named)

    @property
    def bytes_in_float32(self) -> int:
        """Bytes of all of them once those of 16 bits are cast to float32."""
        return sum(parameter.nbytes * (2 if parameter.dtype in _HALF else 1) for _, parameter in self.named)

    @property
    def dtypes(self) -> str:
        """Their types, those of most bytes first."""
        sizes: Counter[str] = Counter()
        for _, parameter in self.named:
            sizes[str(parameter.dtype).removeprefix("torch.")] += parameter.nbytes
        return " and ".join(_most(sizes))

    @property
    def kinds(self) -> str:
        """What they are called, block by block alike, those of most bytes first."""
        sizes: Counter[str] = Counter()
        for path, parameter in self.named:
            sizes[_kind(path)] += parameter.nbytes
        return ", ".join(_most(sizes))

    @property
    def share(self) -> str:
        """`94.9% of the parameters, 28,991,029,248`."""
        return f"{self.num_elements / max(self.num_all, 1):.1%} of the parameters, {self.num_elements:,}"


def not_quantized(model: torch.nn.Module) -> Untouched:
    """What a quantized model keeps as it was: bitsandbytes takes linear layers, but for the output layer."""
    return _left_out(model, lambda parameter: not is_quantized_weight(parameter))


def not_adapted(model: PeftModel) -> Untouched:
    """Matrices without an adapter, besides tables of embeddings and the output layer."""
    passed = {id(parameter) for parameter in (*_adapted(model), *_tables(model))}

    def is_left(parameter: torch.nn.Parameter) -> bool:
        is_matrix = parameter.ndim > 1 or is_quantized_weight(parameter)
        return is_matrix and id(parameter) not in passed

    return _left_out(model, is_left)


def partly_matched(model: PeftModel, targets: Iterable[str]) -> Iterator[tuple[str, str, int, int]]:
    """Targets that only some blocks have: the target, the list of blocks, in how many it is, of how many."""
    found = cast("Sequence[str]", model.base_model.targeted_module_names)  # a module, by its annotation
    lists = {
        path: len(module)
        for path, module in model.get_base_model().named_modules()
        if isinstance(module, torch.nn.ModuleList) and not any(part.isdigit() for part in path.split("."))
    }
    for target in targets:
        paths = [path for path in found if is_targeted(path, (target,))]
        for blocks, num_blocks in lists.items():
            start = f"{blocks}."
            of = {path.removeprefix(start).split(".")[0] for path in paths if path.startswith(start)}
            if 0 < len(of) < num_blocks:
                yield target, blocks, len(of), num_blocks


def own_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """A model's parameters with their paths, without adapters."""
    prefix = adapter_prefix(model)
    for path, parameter in model.named_parameters():
        if not is_of_adapter(path, prefix):
            yield path, parameter


def _left_out(model: torch.nn.Module, is_left: Callable[[torch.nn.Parameter], bool]) -> Untouched:
    named = tuple(own_parameters(model))
    left = tuple((path, parameter) for path, parameter in named if is_left(parameter))
    return Untouched(
        named=left,
        num_elements=sum(num_elements(parameter) for _, parameter in left),
        num_all=sum(num_elements(parameter) for _, parameter in named),
    )


def _adapted(model: PeftModel) -> Iterator[torch.nn.Parameter]:
    """Parameters that have an adapter: a layer's weight, or the one of many in it that peft names."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            yield getattr(module.get_base_layer(), getattr(module, "parameter_name", "weight"))


def _tables(model: PeftModel) -> Iterator[torch.nn.Parameter]:
    """Weights of embeddings and of the output layer."""
    find = cast("Callable[[], torch.nn.Module | None]", model.get_base_model().get_output_embeddings)
    output = find()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) or module is output:
            yield cast("torch.nn.Parameter", module.weight)


def _kind(path: str) -> str:
    """What a parameter is called in every block alike, with what it is in: `mlp.gate_proj`, `lm_head`."""
    own = [part for part in path.split(".") if part not in _OF_WRAPPERS]
    names = [part for part in own if not part.isdigit()]
    return ".".join(names[-1:] if names == own and path.endswith(".weight") else names[-2:])


def _most(sizes: Counter[str]) -> list[str]:
    """Names, those of most bytes first, without what is not worth naming."""
    least = _WORTH_NAMING * sizes.total()
    names = [name for name, size in sizes.most_common() if size >= least]
    num_more = len(names) - _NAMED
    return names if num_more <= 0 else [*names[:_NAMED], f"{num_more} more"]
