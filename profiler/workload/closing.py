"""What a training does after its last step, as transformers' `Trainer` does it: evaluate, save the model."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import Trainer, TrainingArguments

from profiler.records.schema import PhaseName
from profiler.workload.model import autocast_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel

    from profiler.jobs.job import JobSpec
    from profiler.measure.phases import Recorder


def close_training(
    model: PreTrainedModel | PeftModel,
    spec: JobSpec,
    recorder: Recorder,
    *,
    batch_of: Callable[[JobSpec, int], Mapping[str, torch.Tensor]],
    scratch: Path,
) -> None:
    """Evaluates and saves where the job says so.

    The last step's batch is still on the card while `Trainer` evaluates, which it does before its training is
    over; and gone once the model is saved, which is done after it.

    Args:
        model: as it was trained.
        spec: the job.
        recorder: reads both phases.
        batch_of: makes the batch of a job and a step, on the CPU.
        scratch: a private directory for what is saved.
    """
    if spec.eval_batches:
        _evaluate(model, spec, recorder, batch_of=batch_of, scratch=scratch)
    if spec.save:
        recorder.holdings.batches = []
        with recorder.phase(PhaseName.SAVE):
            model.save_pretrained(tempfile.mkdtemp(prefix="saved-", dir=scratch))


def _evaluate(
    model: PreTrainedModel | PeftModel,
    spec: JobSpec,
    recorder: Recorder,
    *,
    batch_of: Callable[[JobSpec, int], Mapping[str, torch.Tensor]],
    scratch: Path,
) -> None:
    evaluated = spec.model_copy(update={"batch_size": spec.eval_batch_size})

    def collate(rows: Sequence[int]) -> Mapping[str, torch.Tensor]:
        return batch_of(evaluated, spec.steps + rows[0] // spec.eval_batch_size)

    trainer = Trainer(
        model=model,
        args=_arguments(spec, scratch),
        data_collator=cast("Any", collate),
        eval_dataset=cast("Any", range(spec.eval_batches * spec.eval_batch_size)),
    )
    with recorder.phase(PhaseName.EVALUATE):
        trainer.evaluation_loop(
            trainer.get_eval_dataloader(),
            description="Evaluation",
            prediction_loss_only=spec.prediction_loss_only,
        )
        recorder.host.let_go()


def _arguments(spec: JobSpec, scratch: Path) -> TrainingArguments:
    dtype = autocast_dtype(spec.precision)
    return TrainingArguments(
        output_dir=str(scratch / "trainer"),
        per_device_eval_batch_size=spec.eval_batch_size,
        eval_accumulation_steps=spec.eval_accumulation_steps,
        bf16=dtype is torch.bfloat16,
        fp16=dtype is torch.float16,
        disable_tqdm=True,
        report_to=[],
    )
