"""One job from start to end: load, then train, evaluate and save, or generate; each phase recorded."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import convert_outputs_to_fp32

from profiler.jobs.choices import Loop, Precision
from profiler.jobs.job import Inference, JobSpec
from profiler.measure.components import num_elements, unowned_bytes
from profiler.records.schema import Parameters, PhaseName
from profiler.workload.adapter import add_adapter, prepare_model
from profiler.workload.batch import make_batch, vocab_size_of
from profiler.workload.closing import close_training
from profiler.workload.generation import generate
from profiler.workload.host_copies import count_host_copies
from profiler.workload.model import (
    autocast_dtype,
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
    on_notes: Callable[[tuple[str, ...]], None],
    before_steps: Callable[[JobSpec], JobSpec] = lambda spec: spec,
) -> None:
    """Run the job on the current CUDA device.

    Args:
        spec: the job.
        source: its model, resolved.
        recorder: reads every phase.
        scratch: a private directory for a checkpoint without data.
        on_parameters: told the parameter counts once adapters are in.
        on_notes: told what silently does not apply, all of it each time (`profiler.workload.notes`).
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
        if isinstance(spec.method, Inference):
            on_parameters(_count_parameters(loaded).model_copy(update={"trainable": 0}))
            with notes.watched():
                generate(loaded, spec, spec.method, recorder, vocab_size=vocab_size_of(loaded))
            return
        model = _adapt(loaded, spec, recorder)
        on_parameters(_count_parameters(model))
        notes.tell()
        with recorder.phase(PhaseName.OPTIMIZER):
            optimizer = recorder.holdings.optimizer = make_optimizer(model, spec.optimizer)
        _train(model, optimizer, before_steps(spec), recorder, notes, loaded=loaded, scratch=scratch)


def _adapt(loaded: PreTrainedModel, spec: JobSpec, recorder: Recorder) -> PreTrainedModel | PeftModel:
    holdings = recorder.holdings
    with recorder.phase(PhaseName.PREPARE):
        prepared = holdings.model = prepare_model(loaded, spec)
    with recorder.phase(PhaseName.ADAPT):
        model = holdings.model = add_adapter(prepared, spec)
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
        batch = make_batch(spec, loaded, number=step)
        with notes.watched() if step == 0 else nullcontext():
            _run_step(spec, step, batch, recorder, model=model, optimizer=optimizer, scaler=scaler)
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
    batch: dict[str, torch.Tensor],
    recorder: Recorder,
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """One training step; the batch stays on the card to its end, as a data loader holds it there."""
    holdings = recorder.holdings
    holdings.other_before_step_bytes = unowned_bytes(recorder.holdings)
    with recorder.phase(PhaseName.FORWARD, step):
        holdings.num_threads_with_workspace = max(1, holdings.num_threads_with_workspace)
        holdings.batch = {name: tensor.to("cuda") for name, tensor in batch.items()}
        outputs = _as_the_loop_calls(model, spec)(**holdings.batch)
        loss = outputs.loss
        if spec.loop is Loop.TRAINER:
            del outputs
    with recorder.phase(PhaseName.BACKWARD, step):
        holdings.num_threads_with_workspace = 2
        scaler.scale(loss).backward()
        # The loss's graph keeps the embeddings' output and its gradient where inputs require gradients.
        loss = outputs = None
    with recorder.phase(PhaseName.CLIP, step):
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
    with recorder.phase(PhaseName.STEP, step):
        scaler.step(optimizer)
        scaler.update()
    with recorder.phase(PhaseName.ZERO_GRAD, step):
        model.zero_grad()


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
