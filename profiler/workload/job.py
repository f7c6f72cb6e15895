"""One job from start to end: load, then train, evaluate and save, or generate; each phase recorded."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import convert_outputs_to_fp32

from profiler.jobs.choices import Loop, Loss, Precision
from profiler.jobs.job import Inference, JobSpec
from profiler.measure.components import num_elements, unowned_bytes
from profiler.records.schema import Parameters, PhaseName
from profiler.workload.adapter import add_adapter, add_noise, prepare_model
from profiler.workload.batch import make_batch, vocab_size_of
from profiler.workload.chunks import chunk_loss
from profiler.workload.closing import close_training
from profiler.workload.generation import generate
from profiler.workload.host_copies import count_host_copies
from profiler.workload.model import (
    autocast_dtype,
    check_packing,
    check_positions,
    load_config,
    load_model,
    prepare_source,
)
from profiler.workload.notes import Notes
from profiler.workload.optimizer import make_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel

    from profiler.jobs.models import ModelSource
    from profiler.measure.phases import Recorder

MAX_GRAD_NORM = 1.0
"""`Trainer`'s default."""


def run_phases(  # noqa: PLR0913 - what a job is, and who is told of it
    spec: JobSpec,
    source: ModelSource,
    recorder: Recorder,
    *,
    scratch: Path,
    on_parameters: Callable[[Parameters], None],
    on_notes: Callable[[tuple[str, ...]], None] | None,
    before_steps: Callable[[JobSpec], JobSpec] = lambda spec: spec,
) -> None:
    """Run the job on the current CUDA device.

    Args:
        spec: the job.
        source: its model, resolved.
        recorder: reads every phase.
        scratch: a private directory for a checkpoint without data.
        on_parameters: told the parameter counts once adapters are in.
        on_notes: told what silently does not apply, all of it each time (`profiler.workload.notes`);
            None where nobody asks.
        before_steps: asked once all is made that training needs, for the job to go on with: the same but for
            its batch.

    Raises:
        ConfigError: what the job names cannot be had or does not fit.
        torch.OutOfMemoryError: as a result; the recorder says in which phase.
    """
    config = load_config(source, spec)
    location = prepare_source(spec, source, config, scratch)
    notes = Notes(spec, recorder, on_notes)
    with notes.told_at_end(), count_host_copies(recorder.host):
        with recorder.phase(PhaseName.CONTEXT):
            torch.cuda.init()
            torch.cuda.mem_get_info()  # asks the driver, which makes the context
        with recorder.phase(PhaseName.LOAD):
            loaded = recorder.holdings.model = load_model(spec, config, location, source.revision)
        check_positions(loaded, spec)
        check_packing(loaded, spec)
        if isinstance(spec.method, Inference):
            on_parameters(_count_parameters(loaded).model_copy(update={"trainable": 0}))
            with notes.watched():
                generate(loaded, spec, spec.method, recorder, vocab_size=vocab_size_of(loaded))
            return
        model = _adapt(loaded, spec, recorder)
        on_parameters(_count_parameters(model))
        notes.tell()
        with recorder.phase(PhaseName.OPTIMIZER):
            optimizer = recorder.holdings.optimizer = make_optimizer(model, spec)
        _train(model, optimizer, before_steps(spec), recorder, notes, loaded=loaded, scratch=scratch)


def _adapt(loaded: PreTrainedModel, spec: JobSpec, recorder: Recorder) -> PreTrainedModel | PeftModel:
    holdings = recorder.holdings
    with recorder.phase(PhaseName.PREPARE):
        prepared = holdings.model = prepare_model(loaded, spec)
        if spec.loss is Loss.CHUNKED:
            chunk_loss(prepared)
    with recorder.phase(PhaseName.ADAPT):
        model = holdings.model = add_adapter(prepared, spec)
        if spec.neftune_alpha:
            add_noise(model, spec.neftune_alpha)
    return model


def _train(  # noqa: PLR0913 - what is trained, and who is told of it
    model: PreTrainedModel | PeftModel,
    optimizer: torch.optim.Optimizer,
    spec: JobSpec,
    recorder: Recorder,
    notes: Notes,
    *,
    loaded: PreTrainedModel,
    scratch: Path,
) -> None:
    """All steps, and what comes after them while the scaler's numbers are still on the card."""
    is_scaled = spec.precision in (Precision.FP16_AMP, Precision.FP16_AUTOCAST)
    scaler = torch.amp.GradScaler("cuda", enabled=is_scaled)
    for step in range(spec.steps):
        batches = [
            make_batch(spec, loaded, number=step * spec.accumulation + micro_step)
            for micro_step in range(spec.accumulation)
        ]
        with notes.watched() if step == 0 else nullcontext():
            _run_step(spec, step, batches, recorder, model=model, optimizer=optimizer, scaler=scaler)
    close_training(
        model,
        spec,
        recorder,
        batch_of=lambda job, number: make_batch(job, loaded, number=number),
        scratch=scratch,
    )


def _run_step(  # noqa: PLR0913 - the parts of a training step
    spec: JobSpec,
    step: int,
    batches: list[dict[str, torch.Tensor]],
    recorder: Recorder,
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """One training step; what is on the card of its batches stays there to its end, as with a data loader."""
    for micro_step in range(len(batches)):
        _accumulate(spec, step, micro_step, batches, recorder, model=model, scaler=scaler)
    with recorder.phase(PhaseName.CLIP, step):
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
    with recorder.phase(PhaseName.STEP, step):
        scaler.step(optimizer)
        scaler.update()
    with recorder.phase(PhaseName.ZERO_GRAD, step):
        model.zero_grad()


def _accumulate(  # noqa: PLR0913 - as above, of one batch
    spec: JobSpec,
    step: int,
    micro_step: int,
    batches: list[dict[str, torch.Tensor]],
    recorder: Recorder,
    *,
    model: torch.nn.Module,
    scaler: torch.amp.GradScaler,
) -> None:
    """One batch's forward and backward pass; its gradients are added to those of the step's others.

    accelerate's data loader moves a batch to the card as it hands it over, and `Trainer` takes all those of a
    step before it trains with the first (`Trainer.get_batch_samples`); a plain loop takes each in its turn.
    """
    holdings = recorder.holdings
    place = (step, micro_step if spec.accumulation > 1 else None)
    holdings.other_before_step_bytes = unowned_bytes(holdings)
    with recorder.phase(PhaseName.FORWARD, *place):
        holdings.num_threads_with_workspace = max(1, holdings.num_threads_with_workspace)
        if spec.loop is Loop.PLAIN:
            holdings.batches = [_to_card(batches[micro_step])]
        elif micro_step == 0:
            holdings.batches = [_to_card(batch) for batch in batches]
        batch = holdings.batches[micro_step if spec.loop is Loop.TRAINER else 0]
        how = {"fused_lm_head": True} if spec.loss is Loss.CHUNKED else {}
        outputs = _as_the_loop_calls(model, spec)(**batch, **how)
        loss = outputs.loss if spec.accumulation == 1 else outputs.loss / spec.accumulation
        if spec.loop is Loop.TRAINER:
            del outputs
    with recorder.phase(PhaseName.BACKWARD, *place):
        holdings.num_threads_with_workspace = 2
        scaler.scale(loss).backward()
        # The loss's graph keeps the embeddings' output and its gradient where inputs require gradients.
        loss = outputs = None


def _to_card(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to("cuda") for name, tensor in batch.items()}


def _as_the_loop_calls(model: torch.nn.Module, spec: JobSpec) -> Callable[..., Any]:
    """The model's forward pass, under autocast where the job's precision says so.

    `Trainer` has accelerate wrap it (`Accelerator.prepare_model`): 16-bit outputs, the logits among them, are
    converted to float32 once it is over.
    """
    dtype = autocast_dtype(spec.precision)
    if dtype is None:
        return model
    forward: Callable[..., Any] = torch.autocast("cuda", dtype=dtype)(model)
    return convert_outputs_to_fp32(forward) if spec.loop is Loop.TRAINER else forward


def _count_parameters(model: torch.nn.Module) -> Parameters:
    """Parameters of the model that trains, packed 4-bit ones counted unpacked."""
    total = trainable = 0
    for parameter in model.parameters():
        count = num_elements(parameter)
        total += count
        trainable += count if parameter.requires_grad else 0
    return Parameters(total=total, trainable=trainable)
