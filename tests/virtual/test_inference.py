"""Inference: a prompt and further tokens by `generate()`, its KV cache counted to the byte."""

from __future__ import annotations

import json
import signal
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from profiler.records.schema import OutcomeStatus, PhaseName, Record
from profiler.units import GIB, MIB
from tests.versions import since
from tests.virtual.jobs import a_job, a_model, components, phase, run_forked, run_warm, without_times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

PHASES = [PhaseName.CONTEXT, PhaseName.LOAD, PhaseName.PREFILL, PhaseName.DECODE]
# Of Llama-3.2-1B: its layers, and its keys' and values' width (8 heads of 64).
NUM_LAYERS, KV_WIDTH = 16, 8 * 64


def infer(virtual_gpu: WarmMachines, *, method: Mapping[str, object] | None = None, **changes: Any) -> Record:
    job = {"model": "llama-3.2-1b", "batch_size": 1, "seq_len": 2048, **changes}
    record = run_warm(virtual_gpu, a_job(**job, method={"kind": "inference", **(method or {})}))
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
    return record


@pytest.fixture(scope="module")
def quantized(virtual_gpu: WarmMachines) -> Callable[[str], Record]:
    """Llama-3.2-1B by the type of its weights; each run once."""
    return cache(lambda quant: infer(virtual_gpu, method={"quant": quant}))


@pytest.mark.parametrize("quant", ["none", "int8", "nf4", "fp4"])
def test_inference_adds_up_and_generating_reads_no_unknown_value(
    quant: str, quantized: Callable[[str], Record]
) -> None:
    record = quantized(quant)
    assert [p.name for p in record.phases] == PHASES
    for reading in record.phases:
        assert reading.components is not None
        assert reading.components.total_bytes == reading.allocated_end_bytes
        assert reading.components.gradients_bytes == reading.components.optimizer_bytes == 0
    assert record.value_reads is not None
    # Quantizing to 8 bits, transformers 5 moves each scale to the host while the model is loaded.
    is_moved = quant == "int8" and since(transformers="5")
    loading = ["transformers/integrations/bitsandbytes.py"] if is_moved else []
    assert [site.partition(":")[0] for site in record.value_reads.sites] == loading
    assert record.parameters is not None
    assert (record.parameters.total, record.parameters.trainable) == (1_235_814_400, 0)
    assert record.peak_step is not None
    assert record.peak_step.allocated_bytes == max(p.allocated_peak_bytes for p in record.phases[2:])
    assert record.components_at is not None
    assert record.components_at.phase is PhaseName.DECODE
    assert record.steady is None


def test_the_cache_holds_keys_and_values_of_every_token_but_the_last(
    quantized: Callable[[str], Record],
) -> None:
    prefill, decode = (components(quantized("none"), name) for name in PHASES[2:])
    assert prefill.kv_cache_bytes == 2 * NUM_LAYERS * KV_WIDTH * 2 * 2048
    assert decode.kv_cache_bytes == 2 * NUM_LAYERS * KV_WIDTH * 2 * (2048 + 31)
    assert decode.activations_bytes < MIB
    # The weights' type changes nothing of it, but for a block that the allocator did not split.
    for quant in ("int8", "nf4", "fp4"):
        held_bytes = components(quantized(quant), PhaseName.DECODE).kv_cache_bytes
        assert 0 <= held_bytes - decode.kv_cache_bytes <= 2 * MIB


def test_a_new_token_grows_the_cache_of_every_row(virtual_gpu: WarmMachines) -> None:
    few = infer(virtual_gpu, batch_size=4, seq_len=512, method={"new_tokens": 2})
    many = infer(virtual_gpu, batch_size=4, seq_len=512, method={"new_tokens": 18})
    grown_bytes = (
        components(many, PhaseName.DECODE).kv_cache_bytes - components(few, PhaseName.DECODE).kv_cache_bytes
    )
    assert grown_bytes == 2 * NUM_LAYERS * KV_WIDTH * 2 * 4 * 16
    assert phase(many, PhaseName.PREFILL) == phase(few, PhaseName.PREFILL)


def test_one_new_token_needs_the_prompts_pass_alone(virtual_gpu: WarmMachines) -> None:
    record = infer(virtual_gpu, seq_len=256, method={"new_tokens": 1})
    assert [p.name for p in record.phases] == PHASES[:-1]
    assert components(record, PhaseName.PREFILL).kv_cache_bytes == 2 * NUM_LAYERS * KV_WIDTH * 2 * 256


def test_only_the_last_token_of_a_prompt_gets_logits(quantized: Callable[[str], Record]) -> None:
    prefill = phase(quantized("none"), PhaseName.PREFILL)
    logits_of_all_bytes = 2048 * 128_256 * 2
    assert prefill.allocated_peak_bytes - prefill.allocated_start_bytes < logits_of_all_bytes / 2


def test_quantized_weights_are_smaller_and_nothing_is_prepared_for_training(
    quantized: Callable[[str], Record],
) -> None:
    held = {quant: components(quantized(quant), PhaseName.LOAD) for quant in ("none", "int8", "nf4", "fp4")}
    matrices = 16 * (2 * 2048 * 2048 + 2 * 2048 * KV_WIDTH + 3 * 2048 * 8192)
    assert held["none"].quantization_state_bytes == 0
    assert held["none"].weights_bytes - held["int8"].weights_bytes == matrices
    saved_bytes = held["none"].weights_bytes - held["nf4"].weights_bytes
    assert saved_bytes == pytest.approx(matrices * 3 / 2, rel=1e-3)
    assert held["nf4"] == held["fp4"]
    assert held["nf4"].quantization_state_bytes > 0
    assert components(quantized("nf4"), PhaseName.DECODE).weights_bytes == held["nf4"].weights_bytes


def test_inference_gives_the_same_bytes_twice(
    quantized: Callable[[str], Record], virtual_gpu: WarmMachines
) -> None:
    assert without_times(quantized("int8")) == without_times(infer(virtual_gpu, method={"quant": "int8"}))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_adds_a_mask_and_no_cache(attention: str, virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path / "model")
    full, padded = (
        infer(
            virtual_gpu,
            model=model,
            batch_size=2,
            seq_len=1024,
            attention=attention,
            attention_mask=mask,
            method={"new_tokens": 4},
        )
        for mask in ("full", "padded")
    )
    assert padded.value_reads is not None
    assert padded.value_reads.unknown == 0
    of_full, of_padded = (components(record, PhaseName.DECODE) for record in (full, padded))
    assert of_full.kv_cache_bytes == of_padded.kv_cache_bytes
    grown_bytes = padded.phases[2].allocated_peak_bytes - full.phases[2].allocated_peak_bytes
    assert grown_bytes >= (2 * 1024 * 1024 if attention == "sdpa" else 0)


@pytest.mark.parametrize(
    ("precision", "key_bytes", "value_bytes"),
    [
        ("fp32", 4, 4),
        # From 4.56 to 5.23 transformers' cache takes the type of its keys and raises values to it; else these
        # keep the type in which autocast projects them.
        ("bf16-amp", 4, 4 if since(transformers="4.56") and not since(transformers="5.24") else 2),
        ("bf16-autocast", 2, 2),
        ("fp16", 2, 2),
    ],
)
def test_keys_are_cached_in_the_type_of_the_weights_even_under_autocast(
    precision: str, key_bytes: int, value_bytes: int, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    # Keys are turned by their positions in the type of the hidden states, which autocast leaves as it is.
    record = infer(
        virtual_gpu, model=a_model(tmp_path / "model"), precision=precision, method={"new_tokens": 1}
    )
    assert components(record, PhaseName.PREFILL).kv_cache_bytes == 2 * 128 * 2048 * (key_bytes + value_bytes)


def test_a_long_prompt_on_a_small_card_runs_out_of_memory_in_the_phase_it_was_in(
    virtual_gpu: WarmMachines,
) -> None:
    job = a_job(
        model="llama-3.2-1b",
        method="inference",
        attention="eager",
        seq_len=16_384,
        batch_size=1,
        gpu_memory_bytes=8 * GIB,
    )
    record = run_warm(virtual_gpu, job)
    assert (record.outcome.status, record.outcome.phase) == (OutcomeStatus.OOM, PhaseName.PREFILL)
    assert record.outcome.step is None
    assert record.phases[-1].is_complete is False


@pytest.mark.parametrize("after", PHASES[1:3])
def test_a_job_that_is_killed_is_told_to_have_been_in_the_phase_that_followed(
    after: PhaseName, virtual_gpu: WarmMachines
) -> None:
    job = a_job(model="llama-3.2-1b", seq_len=2048, method={"kind": "inference", "new_tokens": 512})
    record = run_warm(virtual_gpu, job, signals={after: signal.SIGKILL})
    assert record.outcome.status is OutcomeStatus.KILLED
    # The signal may come late: the phases completed by then say which one it was in.
    reached = len(record.phases)
    assert reached in range(PHASES.index(after) + 1, len(PHASES))
    assert (record.outcome.phase, record.outcome.step) == (PHASES[reached], None)


def test_new_tokens_count_against_a_table_of_positions(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = tmp_path / "gpt2"
    model.mkdir()
    config = {"model_type": "gpt2", "n_positions": 256, "n_layer": 2, "n_embd": 256, "n_head": 4}
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 4096}))
    fitting, beyond = ({"new_tokens": count} for count in (17, 18))
    infer(virtual_gpu, model=str(model), seq_len=240, method=fitting)
    told = run_forked(
        virtual_gpu, a_job(model=str(model), seq_len=240, method={"kind": "inference", **beyond})
    )
    assert "positions for 256 tokens, not for 257" in told["message"]
