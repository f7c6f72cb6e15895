"""What a job was asked for and silently does not get, or takes beside it, each said in a sentence with bytes.

All is found from the model as it was loaded and from what its first step did, never from a model's name. What
is against what was asked for is always said; what is merely large, where it is `VISIBLE_SHARE` of the peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import PeftModel

from profiler.jobs.choices import InferenceQuant
from profiler.jobs.job import Inference, Int8Lora, JobSpec, Lora, QLora
from profiler.records.schema import PhaseName
from profiler.units import format_bytes
from profiler.workload.calls import Calls, ignores_checkpointing, never_called
from profiler.workload.left_out import not_adapted, not_quantized, own_parameters, partly_matched
from profiler.workload.model import autocast_dtype, text_config, weight_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel

    from profiler.records.schema import PhaseReading

VISIBLE_SHARE = 0.05
"""So much of the peak is worth a note where nothing was asked for in vain. Chosen, not measured."""
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a job by now.

    Attributes:
        spec: the job.
        model: as far as it was loaded, prepared and adapted.
        calls: of its modules in the first step, or while it generated.
        readings: of the phases so far.
        optimizer: None before there is one.
    """

    spec: JobSpec
    model: torch.nn.Module
    calls: Calls
    readings: Sequence[PhaseReading]
    optimizer: torch.optim.Optimizer | None

    @property
    def base(self) -> torch.nn.Module:
        """The model without peft's wrapper; adapters are in it."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def peak(self) -> PhaseReading | None:
        """The phase with the highest peak so far."""
        return max(self.readings, key=lambda reading: reading.allocated_peak_bytes, default=None)

    def last(self, name: PhaseName) -> PhaseReading | None:
        """The last phase of this name that was completed."""
        return next((one for one in reversed(self.readings) if one.name is name and one.is_complete), None)

    def is_visible(self, size_bytes: int) -> bool:
        """Whether so many bytes are worth a note."""
        peak_bytes = 0 if self.peak is None else self.peak.allocated_peak_bytes
        return size_bytes > 0 and size_bytes >= VISIBLE_SHARE * peak_bytes


def find_notes(seen: Seen) -> Iterator[str]:
    """Every note there is to make of a job, in the order of `FINDERS`."""
    for find in FINDERS:
        yield from find(seen)


def _quantization(seen: Seen) -> Iterator[str]:
    """What keeps its size: to bitsandbytes neither stacked experts nor embeddings are linear layers."""
    method = seen.spec.method
    if isinstance(method, Inference) and method.quant is InferenceQuant.NONE:
        return
    if not isinstance(method, QLora | Int8Lora | Inference):
        return
    left = not_quantized(seen.model)
    is_cast = not isinstance(method, Inference) and method.kbit_prepare
    is_over = seen.last(PhaseName.ADAPT) is not None
    size_bytes = left.bytes_in_float32 if is_cast and not is_over else left.bytes
    if seen.is_visible(size_bytes):
        types = "float32" if is_cast and not is_over else left.dtypes
        cast = ", as k-bit preparation casts them" if is_cast and "float32" in types else ""
        yield (
            f"quantization leaves out {left.share}: {left.kinds}; "
            f"they take {format_bytes(size_bytes)} in {types}{cast}"
        )


def _adapters(seen: Seen) -> Iterator[str]:
    """What `all-linear` does not name, and names that only some blocks have."""
    method, model = seen.spec.method, seen.model
    if not isinstance(model, PeftModel) or not isinstance(method, Lora | QLora | Int8Lora):
        return
    if isinstance(method.targets, str):
        left = not_adapted(model)
        if left.num_elements >= VISIBLE_SHARE * left.num_all:
            yield f"{method.targets} leaves out {left.share}: no adapter is on {left.kinds}"
        return
    alike: dict[str, list[str]] = {}
    for target, blocks, num_found, num_blocks in partly_matched(model, method.targets):
        alike.setdefault(f"{num_found} of the {num_blocks} blocks of {blocks} alone", []).append(target)
    yield from (f"targets: {', '.join(names)} in {where}" for where, names in alike.items())


def _untied(seen: Seen) -> Iterator[str]:
    """Peft trains a copy of a module: a tensor that it shares with another is no longer one with that."""
    paths: dict[int, list[str]] = {}
    for path, parameter in seen.model.named_parameters(remove_duplicate=False):
        paths.setdefault(id(parameter), []).append(path)
    for shared in paths.values():
        copied = [path for path in shared if ".original_module." in path]
        if copied and len(shared) > 1:
            names = [path.removesuffix(".weight").replace(".original_module", "") for path in shared]
            short = " and ".join(name.rpartition(".")[2] for name in names)
            yield f"modules_to_save: {short} share one tensor in the model, and none once a copy is trained"


def _never_fed(seen: Seen) -> Iterator[str]:
    """Towers for images and sound, above all."""
    if not seen.calls.is_complete:
        return
    alike: dict[str, list[torch.nn.Module]] = {}
    for path, part in never_called(seen.base, seen.calls):
        place = ".".join("*" if name.isdigit() else name for name in path.split("."))
        alike.setdefault(f"{place} ({type(part).__name__}", []).append(part)
    own = {id(parameter) for _, parameter in own_parameters(seen.model)}
    told = []
    for name, parts in alike.items():
        parameters = [parameter for part in parts for parameter in part.parameters()]
        own_bytes = sum(parameter.nbytes for parameter in parameters if id(parameter) in own)
        adapter_bytes = sum(parameter.nbytes for parameter in parameters) - own_bytes
        if own_bytes:  # else the adapters of stacked experts, which are at work without a call
            adapters = f" and {format_bytes(adapter_bytes)} of adapters" if adapter_bytes else ""
            told.append(f"{name}, {format_bytes(own_bytes)}{adapters})")
    if told:
        batch = "this batch" if seen.spec.has_images else "a batch of text alone"
        yield f"loaded, and never fed by {batch}: {', '.join(told)}"


def _attention(seen: Seen) -> Iterator[str]:
    """What transformers chose for the model, or for a part of it, in place of what was asked for."""
    asked = str(seen.spec.attention)
    takers: dict[str, dict[str, None]] = {}
    known: set[int] = set()
    for module in _fed_modules(seen):
        config: Any = getattr(module, "config", None)
        used = getattr(config, "_attn_implementation_internal", None)
        if used not in (None, asked) and id(config) not in known:
            known.add(id(config))
            takers.setdefault(used, {})[type(module).__name__] = None
    for used, names in takers.items():
        yield f"attention: {asked} was asked for, and {', '.join(names)} takes {used}"
    if seen.calls.num_plain_attention:
        config = text_config(cast("PreTrainedModel", seen.base).config)
        num_scores = seen.spec.batch_size * config.num_attention_heads * seen.spec.seq_len**2
        yield (
            f"attention: no fused kernel takes {seen.calls.num_plain_attention} of the calls of sdpa, which "
            f"are plain matrix products then: {format_bytes(_FLOAT32_BYTES * num_scores)} of scores each"
        )


def _fed_modules(seen: Seen) -> Iterator[torch.nn.Module]:
    """All modules, without those in parts that were never called."""
    parts = list(never_called(seen.base, seen.calls)) if seen.calls.is_complete else []
    unfed = {id(module) for _, part in parts for module in part.modules()}
    return (module for module in seen.base.modules() if id(module) not in unfed)


def _checkpointing(seen: Seen) -> Iterator[str]:
    """Checkpointing that was asked for shows in the backward pass, which calls modules again."""
    forward, backward = seen.last(PhaseName.FORWARD), seen.last(PhaseName.BACKWARD)
    if not seen.spec.gradient_checkpointing.enabled or forward is None or backward is None:
        return
    kept = format_bytes(forward.components.activations_bytes) if forward.components else "all"
    asked, rest = "gradient checkpointing was asked for", f"the forward pass leaves {kept} of activations"
    if not seen.calls.again:
        yield f"{asked}, and {type(seen.base).__name__} computes nothing again: {rest}"
        return
    for name, (ignored, told) in ignores_checkpointing(seen.base, seen.calls).items():
        yield f"{asked}, and {ignored} of {told} {name} are not computed again: {rest}"


def _logits(seen: Seen) -> Iterator[str]:
    """`ForCausalLMLoss` casts logits to float32 (transformers, `loss_utils.py`); an output layer may too."""
    logits, precision = seen.calls.logits, seen.spec.precision
    dtype = autocast_dtype(precision) or weight_dtype(precision)
    if logits is None or dtype is torch.float32 or logits.loss_dtype is not torch.float32:
        return
    size_bytes = logits.num_elements * _FLOAT32_BYTES
    is_at_peak = seen.peak is not None and seen.peak.name in (PhaseName.FORWARD, PhaseName.BACKWARD)
    if is_at_peak and seen.is_visible(size_bytes):
        how = "are" if logits.dtype is torch.float32 else "are cast to"
        name = str(dtype).removeprefix("torch.")
        yield f"logits {how} float32 for the loss of a {name} job: {format_bytes(size_bytes)} a copy"


def _gathered(seen: Seen) -> Iterator[str]:
    """`Trainer` concatenates the logits of all batches on the card, unless it is told to move them."""
    spec = seen.spec
    if seen.peak is None or seen.peak.name is not PhaseName.EVALUATE or spec.prediction_loss_only:
        return
    batches = min(spec.eval_accumulation_steps or spec.eval_batches, spec.eval_batches)
    if batches > 1:
        yield (
            f"the evaluation is the peak: the logits of {batches} batches stay on the card; "
            "eval_accumulation_steps says after how many they go to the host"
        )


def _optimizer(seen: Seen) -> Iterator[str]:
    """Foreach AdamW takes the roots of a group's second moments at once (`torch/optim/adam.py`)."""
    step = seen.last(PhaseName.STEP)
    if step is None or seen.peak is None or not _is_foreach(seen.optimizer):
        return
    size_bytes = step.allocated_peak_bytes - step.allocated_end_bytes
    if step.allocated_peak_bytes == seen.peak.allocated_peak_bytes and seen.is_visible(size_bytes):
        yield (
            f"the optimizer's step is the peak: foreach holds {format_bytes(size_bytes)} of temporaries "
            "besides its states"
        )


def _is_foreach(optimizer: torch.optim.Optimizer | None) -> bool:
    """Whether an optimizer of torch steps through lists of tensors, as on a card it does if told nothing."""
    if optimizer is None or "foreach" not in optimizer.defaults:
        return False
    return optimizer.defaults["foreach"] is not False and not optimizer.defaults.get("fused")


FINDERS = (
    *(_quantization, _adapters, _untied, _never_fed, _attention, _checkpointing, _logits, _gathered),
    _optimizer,
)
