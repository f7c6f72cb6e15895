"""One job from start to end: load, prepare, adapt, optimizer, then training steps, each phase recorded."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from profiler.measure.components import count_components
from profiler.records.schema import Parameters, PhaseName
from profiler.spec.job import JobSpec, Loop, Precision
from profiler.workload.adapter import add_adapter, prepare_model
from profiler.workload.batch import make_batch
from profiler.workload.model import check_positions, load_config, load_model, prepare_source
from profiler.workload.optimizer import make_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from profiler.measure.phases import Recorder
    from profiler.spec.models import ModelSource

MAX_GRAD_NORM = 1.0
"""`Trainer`'s default."""


def run_phases(
    spec: JobSpec,
    source: ModelSource,
    recorder: Recorder,
    *,
    scratch: Path,
    on_parameters: Callable[[Parameters], None],
) -> None:
    """Run the job on the current CUDA device.

    Args:
        spec: the job.
        source: its model, resolved.
        recorder: reads every phase.
        scratch: a private directory for a checkpoint without data.
        on_parameters: told the parameter counts once adapters are in.

    Raises:
        ConfigError: what the job names cannot be had or does not fit.
        torch.OutOfMemoryError: as a result; the recorder says in which phase.
    """
    holdings = recorder.holdings
    config = load_config(source)
    location = prepare_source(spec, source, config, scratch)
    with recorder.phase(PhaseName.CONTEXT):
        torch.cuda.init()
        torch.cuda.mem_get_info()  # asks the driver, which makes the context
    with recorder.phase(PhaseName.LOAD):
        loaded = holdings.model = load_model(spec, location, source.revision)
    check_positions(loaded, spec)
    with recorder.phase(PhaseName.PREPARE):
        prepared = holdings.model = prepare_model(loaded, spec)
    with recorder.phase(PhaseName.ADAPT):
        model = holdings.model = add_adapter(prepared, spec)
    on_parameters(_count_parameters(model))
    with recorder.phase(PhaseName.OPTIMIZER):
        optimizer = holdings.optimizer = make_optimizer(model, spec.optimizer)
    scaler = torch.amp.GradScaler("cuda", enabled=spec.precision is Precision.FP16_AMP)
    for step in range(spec.steps):
        batch = make_batch(spec, vocab_size=config.get_text_config().vocab_size, step=step)
        _run_step(spec, step, batch, recorder, model=model, optimizer=optimizer, scaler=scaler)


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
    holdings.other_before_step_bytes = _unclaimed_bytes(recorder)
    with recorder.phase(PhaseName.FORWARD, step):
        holdings.num_threads_with_workspace = max(1, holdings.num_threads_with_workspace)
        holdings.batch = {name: tensor.to("cuda") for name, tensor in batch.items()}
        with _autocast(spec.precision):
            outputs = model(**holdings.batch)
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


def _unclaimed_bytes(recorder: Recorder) -> int:
    components = count_components(recorder.holdings)
    return components.activations_bytes + components.other_bytes


def _autocast(precision: Precision) -> AbstractContextManager[None]:
    match precision:
        case Precision.BF16_AMP:
            return torch.autocast("cuda", dtype=torch.bfloat16)
        case Precision.FP16_AMP:
            return torch.autocast("cuda", dtype=torch.float16)
        case Precision.FP32 | Precision.BF16 | Precision.FP16:
            return nullcontext()


def _count_parameters(model: torch.nn.Module) -> Parameters:
    """Parameters of the model that trains, packed 4-bit ones counted unpacked."""
    total = trainable = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = state.shape.numel() if state is not None else parameter.numel()
        total += count
        trainable += count if parameter.requires_grad else 0
    return Parameters(total=total, trainable=trainable)
