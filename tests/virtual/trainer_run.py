"""transformers' own `Trainer` over a job's model and batches, the allocator read phase by phase."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec


def train(job: str) -> list[list[object]]:
    """In the child: `[phase, step, bytes allocated at its end, peak]` of each phase of each step.

    The model is made as for any job, up to its adapters; everything after is `Trainer`'s own.
    """
    import torch
    from transformers import Trainer, TrainingArguments

    from profiler.jobs.job import JobSpec
    from profiler.virtual.values import TrueValues
    from profiler.workload.batch import make_batch
    from profiler.workload.model import autocast_dtype

    spec = JobSpec.model_validate_json(job)
    with tempfile.TemporaryDirectory() as scratch, TrueValues():
        loaded, model = _make_model(spec, Path(scratch))
        computed = autocast_dtype(spec.precision)
        arguments = TrainingArguments(
            output_dir=scratch,
            optim=spec.optimizer.value,
            per_device_train_batch_size=spec.batch_size,
            gradient_accumulation_steps=spec.accumulation,
            max_steps=spec.steps,
            bf16=computed is torch.bfloat16,
            fp16=computed is torch.float16,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            eval_strategy="steps" if spec.eval_batches else "no",
            eval_steps=spec.steps,
            per_device_eval_batch_size=spec.eval_batch_size,
            eval_accumulation_steps=spec.eval_accumulation_steps,
            prediction_loss_only=spec.prediction_loss_only,
        )

        def rows(job: JobSpec, num_batches: int) -> list[dict[str, Any]]:
            batches = [make_batch(job, loaded, number=number) for number in range(num_batches)]
            return [
                {name: batch[name][row] for name in batch}
                for batch in batches
                for row in range(job.batch_size)
            ]

        meter = _Meter()
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows(spec, spec.steps * spec.accumulation),
            eval_dataset=rows(
                spec.model_copy(update={"batch_size": spec.eval_batch_size}), spec.eval_batches
            ),
            compute_metrics=lambda _: {},
            callbacks=[_callback(meter)],
        )
        _mark_backward(trainer, meter)
        trainer.train()
        if spec.save:
            meter.begin()
            trainer.save_model()
            meter.end("save")
    return meter.readings


class _Meter:
    def __init__(self) -> None:
        self.readings: list[list[object]] = []
        self._step = 0

    def begin(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def end(self, name: str) -> None:
        import torch

        allocated, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        step = None if name in ("evaluate", "save") else self._step
        self.readings.append([name, step, allocated, peak])
        self._step += name == "zero_grad"
        self.begin()


def _callback(meter: _Meter) -> Any:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_step_begin(self, *_: object, **__: object) -> None:
            meter.begin()

        def on_pre_optimizer_step(self, *_: object, **__: object) -> None:
            meter.end("clip")

        def on_optimizer_step(self, *_: object, **__: object) -> None:
            meter.end("step")

        def on_step_end(self, *_: object, **__: object) -> None:
            meter.end("zero_grad")

        def on_evaluate(self, *_: object, **__: object) -> None:
            meter.end("evaluate")

    return Callback()


def _mark_backward(trainer: Any, meter: _Meter) -> None:
    """The forward pass ends where the backward pass is called, and that one when the loss's graph is gone."""
    backward, training_step = trainer.accelerator.backward, trainer.training_step

    def marked_backward(loss: object, **kwargs: object) -> None:
        meter.end("forward")
        backward(loss, **kwargs)

    def marked_step(*arguments: object, **kwargs: object) -> object:
        loss = training_step(*arguments, **kwargs)
        meter.end("backward")
        return loss

    trainer.accelerator.backward, trainer.training_step = marked_backward, marked_step


def _make_model(spec: JobSpec, scratch: Path) -> tuple[Any, Any]:
    """The model as it was loaded, and with its adapters."""
    import torch

    from profiler.jobs.models import resolve_model
    from profiler.workload.adapter import add_adapter, prepare_model
    from profiler.workload.model import load_config, load_model, prepare_source

    source = resolve_model(spec.model, weights=spec.weights)
    config = load_config(source, spec)
    location = prepare_source(spec, source, config, scratch)
    torch.cuda.init()
    loaded = load_model(spec, config, location, source.revision)
    return loaded, add_adapter(prepare_model(loaded, spec), spec)
