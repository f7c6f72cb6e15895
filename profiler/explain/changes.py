"""Which changes of a job would lower its peak: candidates, and what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import ValidationError

from profiler.jobs.choices import Attention, InferenceQuant, Loop, Optimizer, Precision
from profiler.jobs.job import Full, GradientCheckpointing, Inference, JobSpec, Lora

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIN_SEQ_LEN = 256
_4_BITS = "weights in 4 bits: slower, and rounded"
_16_BIT: Final = {Precision.FP32: Precision.BF16, Precision.BF16_AMP: Precision.BF16}
_WIDE_STATE = frozenset({Optimizer.ADAMW_TORCH, Optimizer.ADAMW_TORCH_FUSED, Optimizer.PAGED_ADAMW_32BIT})


class Lever(StrEnum):
    """What is changed."""

    EVALUATION = "evaluation"
    LOOP = "loop"
    OPTIMIZER = "optimizer"
    CHECKPOINTING = "checkpointing"
    PRECISION = "precision"
    METHOD = "method"
    ATTENTION = "attention"
    ALLOCATOR = "allocator"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a job.

    Attributes:
        kind: what is changed.
        flags: what to add to the command.
        cost: what is given for it.
        spec: the changed job.
    """

    kind: Lever
    flags: str
    cost: str
    spec: JobSpec


_Idea: TypeAlias = tuple[Lever, str, str, dict[str, object]]
"""Lever, flags, cost and the changed keys."""


def possible_changes(spec: JobSpec, *, alloc_conf: str | None = None) -> list[Change]:
    """The changes of a job that may lower its peak, those that cost least first; valid jobs all.

    Args:
        spec: the job.
        alloc_conf: settings of the allocator that are better for it; None where none is known.
    """
    changes: list[Change] = []
    for kind, flags, cost, values in _ideas(spec, alloc_conf):
        try:
            changed = JobSpec.model_validate(spec.model_dump() | values)
        except ValidationError:  # another setting of the job rules it out
            continue
        changes.append(Change(kind=kind, flags=flags, cost=cost, spec=changed))
    return changes


def _ideas(spec: JobSpec, alloc_conf: str | None) -> Iterator[_Idea]:
    if spec.attention is Attention.EAGER:
        yield Lever.ATTENTION, "--attention sdpa", "nothing: it is faster, too", {"attention": Attention.SDPA}
    if isinstance(spec.method, Inference):
        yield from _of_inference(spec.method)
    else:
        yield from _of_evaluation(spec)
        yield from _of_loop(spec)
        yield from _of_optimizer(spec.optimizer)
        yield from _of_method(spec)
    if alloc_conf is not None:
        yield Lever.ALLOCATOR, f"--alloc-conf {alloc_conf}", "nothing", {"alloc_conf": alloc_conf}
    yield from _of_tokens(spec)


def _of_evaluation(spec: JobSpec) -> Iterator[_Idea]:
    if not spec.eval_batches:
        return
    if spec.eval_accumulation_steps != 1:
        cost = "time, and the host's memory: logits go there batch by batch"
        values: dict[str, object] = {"eval_accumulation_steps": 1}
        yield Lever.EVALUATION, "--eval-accumulation-steps 1", cost, values
    if not spec.prediction_loss_only:
        cost = "no metrics of the logits: the loss alone"
        yield Lever.EVALUATION, "--prediction-loss-only", cost, {"prediction_loss_only": True}
    if spec.eval_batch_size > 1:
        half = spec.eval_batch_size // 2
        yield Lever.EVALUATION, f"--eval-batch-size {half}", "time", {"eval_batch_size": half}


def _of_loop(spec: JobSpec) -> Iterator[_Idea]:
    if spec.loop is Loop.PLAIN:
        cost = "nothing: let go of the outputs before the backward pass, as Trainer does"
        yield Lever.LOOP, "--loop trainer", cost, {"loop": Loop.TRAINER}
    if not spec.gradient_checkpointing.enabled:
        checkpointing = GradientCheckpointing(enabled=True).model_dump()
        cost = "time: one more forward pass"
        yield (
            Lever.CHECKPOINTING,
            "--gradient-checkpointing",
            cost,
            {"gradient_checkpointing": checkpointing},
        )


def _of_optimizer(optimizer: Optimizer) -> Iterator[_Idea]:
    if optimizer is Optimizer.ADAMW_TORCH:
        values: dict[str, object] = {"optimizer": Optimizer.ADAMW_TORCH_FUSED}
        yield Lever.OPTIMIZER, "--optimizer adamw_torch_fused", "nothing", values
    if optimizer in _WIDE_STATE:
        paged = "the optimizer's state in 8 bits, on the host while memory is short"
        for name, cost in (
            (Optimizer.ADAMW_BNB_8BIT, "the optimizer's state in 8 bits"),
            (Optimizer.PAGED_ADAMW_8BIT, paged),
        ):
            yield Lever.OPTIMIZER, f"--optimizer {name}", cost, {"optimizer": name}


def _of_method(spec: JobSpec) -> Iterator[_Idea]:
    if spec.precision in _16_BIT:
        precision = _16_BIT[spec.precision]
        cost = "weights and their updates in 16 bits"
        yield Lever.PRECISION, f"--precision {precision}", cost, {"precision": precision}
    if isinstance(spec.method, Full):
        cost = "adapters are trained, not the weights"
        yield Lever.METHOD, "--method lora", cost, {"method": {"kind": "lora"}}
    elif isinstance(spec.method, Lora):
        method = spec.method.model_dump() | {"kind": "qlora"}
        yield Lever.METHOD, "--method qlora", _4_BITS, {"method": method}


def _of_inference(method: Inference) -> Iterator[_Idea]:
    if not method.is_4bit:
        changed = method.model_dump() | {"quant": InferenceQuant.NF4}
        yield Lever.METHOD, "--quant nf4", _4_BITS, {"method": changed}


def _of_tokens(spec: JobSpec) -> Iterator[_Idea]:
    if spec.batch_size > 1:
        divisor = next(number for number in range(2, spec.batch_size + 1) if spec.batch_size % number == 0)
        fewer = spec.batch_size // divisor
        if isinstance(spec.method, Inference):
            yield Lever.TOKENS, f"--batch-size {fewer}", "fewer rows at a time", {"batch_size": fewer}
        else:
            accumulation = spec.accumulation * divisor
            flags = f"--batch-size {fewer} --accumulation {accumulation}"
            values: dict[str, object] = {"batch_size": fewer, "accumulation": accumulation}
            yield Lever.TOKENS, flags, "time: as many rows a step, fewer at once", values
    if spec.seq_len >= 2 * _MIN_SEQ_LEN:
        half = spec.seq_len // 2
        yield Lever.TOKENS, f"--seq-len {half}", "longer texts are cut", {"seq_len": half}
