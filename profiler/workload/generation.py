"""Inference: transformers' own `generate()`, the prompt's pass told from those of further tokens."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, cast

import torch
from transformers import GenerationConfig

from profiler.measure.components import unowned_bytes
from profiler.records.schema import PhaseName
from profiler.workload.batch import make_prompt
from profiler.workload.model import autocast_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

    from profiler.jobs.job import Inference, JobSpec
    from profiler.measure.phases import Recorder


def generate(
    model: PreTrainedModel, spec: JobSpec, method: Inference, recorder: Recorder, *, vocab_size: int
) -> None:
    """Generate the job's tokens greedily, with a KV cache; the prompt stays on the card.

    No token ends the text, so that every row has all its tokens whatever the weights say.
    """
    holdings = recorder.holdings
    model.generation_config = GenerationConfig(
        max_new_tokens=method.new_tokens, do_sample=False, use_cache=True
    )
    dtype = autocast_dtype(spec.precision)
    holdings.other_before_step_bytes = unowned_bytes(holdings)
    with ExitStack() as phase:
        phase.enter_context(recorder.phase(PhaseName.PREFILL))
        _watch_passes(model, recorder, phase)
        holdings.num_threads_with_workspace = 1
        prompt = make_prompt(spec, vocab_size=vocab_size)
        batch = {name: tensor.to("cuda") for name, tensor in prompt.items()}
        holdings.batches = [batch]
        with nullcontext() if dtype is None else torch.autocast("cuda", dtype=dtype):
            batch["output_ids"] = _generate(model)(**batch)


def _generate(model: PreTrainedModel) -> Callable[..., torch.Tensor]:
    return cast("Callable[..., torch.Tensor]", model.generate)  # a mixin's, which its annotations leave out


def _watch_passes(model: PreTrainedModel, recorder: Recorder, phase: ExitStack) -> None:
    """Have `decode` begin with the second pass, and the cache counted, which `generate()` keeps to itself."""
    num_passes = 0

    def begin(_module: torch.nn.Module, _arguments: object) -> None:
        nonlocal num_passes
        num_passes += 1
        if num_passes == 2:
            phase.close()
            phase.enter_context(recorder.phase(PhaseName.DECODE))

    def end(_module: torch.nn.Module, _arguments: object, outputs: object) -> None:
        recorder.holdings.kv_cache = getattr(outputs, "past_key_values", None)

    model.register_forward_pre_hook(begin)
    model.register_forward_hook(end)
