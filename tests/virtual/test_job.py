"""Whole jobs on virtual cards: what they take, that it adds up, and that it is the same every time."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profiler.execute.local import run_job
from profiler.records.schema import Components, OutcomeStatus, PhaseName, PhaseReading, Record
from profiler.spec.job import Optimizer, Precision
from profiler.units import GIB, MIB, TIB
from tests.virtual.harness import ROOT, WarmMachines
from tests.virtual.jobs import a_job, a_model, phase, run_warm, without_times

if TYPE_CHECKING:
    from collections.abc import Callable

LOADED = [PhaseName.CONTEXT, PhaseName.LOAD, PhaseName.PREPARE, PhaseName.ADAPT, PhaseName.OPTIMIZER]
STEP = [PhaseName.FORWARD, PhaseName.BACKWARD, PhaseName.CLIP, PhaseName.STEP, PhaseName.ZERO_GRAD]

METHODS: dict[str, dict[str, object]] = {
    "full": {"kind": "full"},
    "lora": {"kind": "lora", "targets": "q_proj,v_proj"},
    "nf4": {"kind": "qlora"},
    "nf4-single": {"kind": "qlora", "double_quant": False},
    "nf4-unprepared": {"kind": "qlora", "kbit_prepare": False},
    "fp4": {"kind": "qlora", "quant": "fp4"},
    "fp4-single-unprepared": {
        "kind": "qlora",
        "quant": "fp4",
        "double_quant": False,
        "kbit_prepare": False,
    },
    "int8": {"kind": "int8-lora"},
    "int8-unprepared": {"kind": "int8-lora", "kbit_prepare": False},
}


@pytest.fixture
def llama(tmp_path: Path) -> str:
    return a_model(tmp_path / "llama")


def _save(config_directory: str, to: str, shard_size: str, dtype: str) -> int:
    """In the child: real weights of this config, as `save_pretrained` writes them."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(config_directory)
    model = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    model.save_pretrained(to, max_shard_size=shard_size)
    return len(list(Path(to).glob("*.safetensors")))


@pytest.fixture(scope="module")
def checkpoints(virtual_gpu: WarmMachines, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model without weights, the same with its weights in one file, and in three."""
    place = tmp_path_factory.mktemp("checkpoints")
    config = a_model(place / "config")
    whole, sharded = str(place / "whole"), str(place / "sharded")
    assert virtual_gpu("rtx-4090", _save, config, whole, "5GB", "float32") == 1
    assert virtual_gpu("rtx-4090", _save, config, sharded, "3MB", "bfloat16") == 3
    return {"random": config, "whole": whole, "sharded": sharded}


@pytest.fixture(scope="module")
def run_method(virtual_gpu: WarmMachines, checkpoints: dict[str, str]) -> Callable[[str, str], Record]:
    """The job of one of `METHODS` with one of `checkpoints`; run once, however many tests look at it."""

    @cache
    def run(method: str, weights: str) -> Record:
        kind = "random" if weights == "random" else "pretrained"
        return run_warm(virtual_gpu, a_job(model=checkpoints[weights], weights=kind, method=METHODS[method]))

    return run


def components(record: Record, name: PhaseName, step: int | None = None) -> Components:
    counted = phase(record, name, step).components
    assert counted is not None
    return counted


def block_bytes(num_elements: int, element_bytes: int) -> int:
    """What the allocator counts for one tensor: blocks are whole multiples of 512 bytes."""
    return -(-num_elements * element_bytes // 512) * 512


def llama_parameters() -> list[int]:
    """The sizes of the parameters of `TINY_LLAMA`."""
    hidden, intermediate, vocabulary, key_value = 256, 704, 4096, 128
    layer = [
        *[hidden * hidden, key_value * hidden, key_value * hidden, hidden * hidden],
        *[hidden * intermediate] * 3,
        *[hidden] * 2,
    ]
    return [vocabulary * hidden, *layer, *layer, hidden, vocabulary * hidden]


# ---- against a real card ----


def mistral(virtual_gpu: WarmMachines, **changes: object) -> Record:
    job = {"model": "mistral-7b-v0.1", "gpu": "a100-80gb", "batch_size": 4, "seq_len": 4096}
    record = run_warm(virtual_gpu, a_job(**job, **changes))
    assert record.outcome.status is OutcomeStatus.OK
    assert record.peak is not None
    assert record.steady is not None
    return record


def peak_and_end(record: Record) -> tuple[int, int]:
    assert record.peak is not None
    assert record.steady is not None
    return record.peak.allocated_bytes, record.steady.allocated_end_bytes


QKVO_RANK_16 = {"kind": "lora", "rank": 16, "targets": "q_proj,k_proj,v_proj,o_proj"}


def test_full_fine_tuning_of_mistral_7b_takes_what_a_real_a100_reported(virtual_gpu: WarmMachines) -> None:
    # Published from a real A100-80GB: github.com/foundation-model-stack/fms-acceleration,
    # scripts/benchmarks/refs/a100_80gb.csv at commit 24bdadb.
    peak_bytes, end_bytes = peak_and_end(mistral(virtual_gpu, method="full"))
    assert peak_bytes == pytest.approx(72_434_837_504, rel=1e-4)
    assert end_bytes == pytest.approx(43_467_876_352, rel=1e-4)


def test_lora_of_mistral_7b_takes_what_a_real_a100_reported(virtual_gpu: WarmMachines) -> None:
    # The same file as above. It was run with transformers 4.48's Trainer: that dropped the logits before the
    # backward pass, but its loss kept a contiguous float32 copy of them, which transformers 5's no longer
    # makes. The plain loop keeps the logits themselves instead, and so comes out alike.
    plain = mistral(virtual_gpu, method=QKVO_RANK_16, loop="plain")
    peak_bytes, end_bytes = peak_and_end(plain)
    assert peak_bytes == pytest.approx(26_704_571_904, rel=5e-3)
    assert end_bytes == pytest.approx(14_664_493_056, rel=1e-4)

    trainer_peak_bytes, trainer_end_bytes = peak_and_end(
        mistral(virtual_gpu, method=QKVO_RANK_16, loop="trainer")
    )
    logits_bytes = 4 * 4096 * 32_000 * 2
    assert peak_bytes - trainer_peak_bytes == pytest.approx(logits_bytes, rel=0.01)
    assert trainer_end_bytes == end_bytes


# ---- adding up, and the same every time ----


@pytest.mark.parametrize("method", METHODS)
def test_a_job_adds_up_and_gives_the_same_bytes_twice(
    method: str, run_method: Callable[[str, str], Record], virtual_gpu: WarmMachines
) -> None:
    first = run_method(method, "random")
    second = run_warm(virtual_gpu, first.spec)
    assert without_times(first) == without_times(second)
    assert first.outcome.status is OutcomeStatus.OK
    assert [(p.name, p.step) for p in first.phases] == [
        *[(name, None) for name in LOADED],
        *[(name, step) for step in range(3) for name in STEP],
    ]
    for reading in first.phases:
        assert reading.is_complete
        assert reading.components is not None
        assert reading.components.total_bytes == reading.allocated_end_bytes
        assert reading.allocated_end_bytes <= reading.allocated_peak_bytes <= reading.reserved_peak_bytes
        assert reading.elapsed_s is None, "a virtual card has no speed"


@pytest.mark.parametrize("method", METHODS)
def test_each_component_is_there_when_it_should_be(
    method: str, run_method: Callable[[str, str], Record]
) -> None:
    record = run_method(method, "random")
    is_full, is_quantized = method == "full", method not in ("full", "lora")
    for step in range(3):
        assert components(record, PhaseName.FORWARD, step).gradients_bytes == 0
        assert components(record, PhaseName.FORWARD, step).activations_bytes > 5 * MIB
        assert components(record, PhaseName.FORWARD, step).batch_bytes == 3 * 2 * 256 * 8
        backward = components(record, PhaseName.BACKWARD, step)
        assert backward.gradients_bytes == (backward.weights_bytes if is_full else backward.adapter_bytes), (
            "every trained parameter has a gradient, and no other one"
        )
        assert backward.activations_bytes == 0
        assert components(record, PhaseName.STEP, step).optimizer_bytes == 2 * backward.gradients_bytes
        assert components(record, PhaseName.ZERO_GRAD, step).gradients_bytes == 0
    before, after = components(record, PhaseName.LOAD), components(record, PhaseName.ADAPT)
    assert before.adapter_bytes == before.optimizer_bytes == before.gradients_bytes == 0
    assert (after.adapter_bytes > 0) is not is_full
    assert (before.quantization_state_bytes > 0) is is_quantized
    assert components(record, PhaseName.FORWARD, 0).optimizer_bytes == 0
    assert components(record, PhaseName.FORWARD, 1).optimizer_bytes > 0


def test_only_preparing_a_quantized_model_makes_its_other_weights_float32(
    run_method: Callable[[str, str], Record],
) -> None:
    def weights(method: str) -> tuple[int, int]:
        record = run_method(method, "random")
        load, prepare = components(record, PhaseName.LOAD), components(record, PhaseName.PREPARE)
        return load.weights_bytes, prepare.weights_bytes - load.weights_bytes

    # Embeddings, output layer and norms, from 2 to 4 bytes each; a norm's block goes from 512 to 1024.
    grown_bytes = 2 * 4096 * 256 * 2 + 5 * 512
    loaded_bytes, _ = weights("nf4")
    assert weights("nf4") == (loaded_bytes, grown_bytes)
    assert weights("nf4-unprepared") == (loaded_bytes, 0)
    assert weights("full")[1] == weights("lora")[1] == 0


def test_double_quantization_shrinks_the_scales_alone(run_method: Callable[[str, str], Record]) -> None:
    twice, once = run_method("nf4", "random"), run_method("nf4-single", "random")
    of_twice, of_once = components(twice, PhaseName.ADAPT), components(once, PhaseName.ADAPT)
    assert of_twice.weights_bytes == of_once.weights_bytes
    assert of_twice.quantization_state_bytes < 0.7 * of_once.quantization_state_bytes


def test_a_fresh_process_gives_the_bytes_of_a_warm_one(run_method: Callable[[str, str], Record]) -> None:
    warm = run_method("nf4", "random")
    told: list[PhaseReading] = []
    fresh = run_job(warm.spec, on_phase=told.append)
    assert without_times(fresh) == without_times(warm)
    assert tuple(told) == fresh.phases
    assert Record.model_validate_json(fresh.model_dump_json()) == fresh
    assert fresh.device is not None
    assert (fresh.device.kind, fresh.device.device_used_source) == ("virtual", "exact")


# ---- every choice of the job ----


@pytest.fixture(scope="module")
def optimized(virtual_gpu: WarmMachines, tmp_path_factory: pytest.TempPathFactory) -> dict[Optimizer, Record]:
    """The same full fine-tuning with each optimizer."""
    model = a_model(tmp_path_factory.mktemp("model"))
    return {o: run_warm(virtual_gpu, a_job(model=model, optimizer=o)) for o in Optimizer}


@pytest.mark.parametrize("optimizer", Optimizer)
def test_every_optimizer_runs_and_its_state_stays(
    optimizer: Optimizer, optimized: dict[Optimizer, Record]
) -> None:
    record = optimized[optimizer]
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
    assert record.value_reads is not None
    assert record.value_reads.unknown == 0
    states = [components(record, PhaseName.STEP, step).optimizer_bytes for step in range(3)]
    assert states[0] == states[1] == states[2]
    for reading in record.phases:
        assert reading.components is not None
        assert reading.components.total_bytes == reading.allocated_end_bytes


def test_optimizers_hold_what_their_state_takes(optimized: dict[Optimizer, Record]) -> None:
    state = {o: components(record, PhaseName.STEP, 2).optimizer_bytes for o, record in optimized.items()}
    parameters = llama_parameters()
    moments_bytes = 2 * sum(block_bytes(n, 2) for n in parameters)
    assert state[Optimizer.ADAMW_TORCH] == moments_bytes
    # Fused AdamW keeps each parameter's step count, one float32, on the card.
    assert state[Optimizer.ADAMW_TORCH_FUSED] == moments_bytes + 512 * len(parameters)
    assert state[Optimizer.SGD] == 0
    assert 0 < state[Optimizer.ADAFACTOR] < 0.02 * moments_bytes
    assert 0 < state[Optimizer.ADAMW_BNB_8BIT] < moments_bytes


def test_paged_optimizers_hold_their_state_outside_the_card(optimized: dict[Optimizer, Record]) -> None:
    managed = {o: record.managed_bytes for o, record in optimized.items()}
    paged = {Optimizer.PAGED_ADAMW_8BIT, Optimizer.PAGED_ADAMW_32BIT}
    assert {o for o, held in managed.items() if held} == paged
    # The embeddings are in 32 bits with either, as Trainer has it; the rest is a quarter.
    embedding_bytes = 2 * 4 * 4096 * 256
    in_8_bits = managed[Optimizer.PAGED_ADAMW_8BIT] - embedding_bytes
    in_32_bits = managed[Optimizer.PAGED_ADAMW_32BIT] - embedding_bytes
    assert in_8_bits == pytest.approx(in_32_bits / 4, rel=0.1)
    for optimizer in paged:
        on_card = components(optimized[optimizer], PhaseName.STEP, 2).optimizer_bytes
        assert on_card < managed[optimizer] / 7


@pytest.mark.parametrize("precision", Precision)
def test_every_precision_keeps_weights_gradients_and_moments_in_its_type(
    precision: Precision, virtual_gpu: WarmMachines, llama: str
) -> None:
    record = run_warm(virtual_gpu, a_job(model=llama, precision=precision))
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
    element_bytes = 2 if precision in (Precision.BF16, Precision.FP16) else 4
    expected_bytes = sum(block_bytes(n, element_bytes) for n in llama_parameters())
    held = components(record, PhaseName.STEP, 2)
    assert held.weights_bytes == held.gradients_bytes == expected_bytes
    assert held.optimizer_bytes == 2 * expected_bytes
    # GradScaler's scale and growth count.
    assert held.other_bytes == (1024 if precision is Precision.FP16_AMP else 0)
    assert record.parameters is not None
    assert record.parameters.total == record.parameters.trainable == sum(llama_parameters())


CHECKPOINTING: dict[str, object] = {"off": False, "on": True, "reentrant": {"reentrant": True}}


@pytest.fixture(scope="module")
def attended(
    virtual_gpu: WarmMachines, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Record]:
    """LoRA with every pair of attention and checkpointing."""
    model = a_model(tmp_path_factory.mktemp("model"))
    return {
        (attention, name): run_warm(
            virtual_gpu,
            a_job(
                model=model, method="lora", attention=attention, gradient_checkpointing=checkpointing, steps=2
            ),
        )
        for attention in ("eager", "sdpa")
        for name, checkpointing in CHECKPOINTING.items()
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("checkpointing", CHECKPOINTING)
def test_every_attention_runs_with_and_without_checkpointing(
    attention: str, checkpointing: str, attended: dict[tuple[str, str], Record]
) -> None:
    record = attended[attention, checkpointing]
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
    held = components(record, PhaseName.BACKWARD, 1)
    assert held.gradients_bytes == held.adapter_bytes > 0
    assert held.activations_bytes == 0


def test_checkpointing_and_sdpa_each_save_activations(attended: dict[tuple[str, str], Record]) -> None:
    kept = {key: components(r, PhaseName.FORWARD, 1).activations_bytes for key, r in attended.items()}
    for attention in ("eager", "sdpa"):
        assert kept[attention, "on"] == kept[attention, "reentrant"] < kept[attention, "off"]
    # Four heads' probabilities in bfloat16, of two rows of 256 x 256, in each of two layers.
    assert kept["eager", "off"] - kept["sdpa", "off"] >= 2 * 2 * 4 * 256 * 256 * 2


def test_expandable_segments_change_what_is_reserved_and_not_what_is_allocated() -> None:
    job = a_job(model="smollm2-135m", method="qlora", seq_len=1024, steps=1)
    fixed = run_job(job)
    expandable = run_job(job.model_copy(update={"alloc_conf": "expandable_segments:True"}))
    allocated = [
        [(p.allocated_start_bytes, p.allocated_end_bytes, p.allocated_peak_bytes) for p in record.phases]
        for record in (fixed, expandable)
    ]
    assert allocated[0] == allocated[1]
    assert fixed.peak is not None
    assert expandable.peak is not None
    assert expandable.peak.reserved_bytes < fixed.peak.reserved_bytes
    assert expandable.environment is not None
    assert expandable.environment.alloc_conf == "expandable_segments:True"
    assert expandable.key != fixed.key


# ---- pretrained weights ----


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_pretrained_weights_take_the_bytes_of_random_ones_phase_by_phase(
    method: str, kind: str, run_method: Callable[[str, str], Record]
) -> None:
    random, pretrained = run_method(method, "random"), run_method(method, kind)
    assert pretrained.outcome.status is OutcomeStatus.OK, pretrained.outcome.message
    assert pretrained.peak_step == random.peak_step
    assert pretrained.steady == random.steady
    assert without_times(pretrained) == without_times(random)


# ---- a card that is too small, a model that is too large for the host ----


def test_full_fine_tuning_of_8b_on_a_4090_runs_out_of_memory_which_is_a_result(
    virtual_gpu: WarmMachines,
) -> None:
    record = run_warm(virtual_gpu, a_job(model="llama-3.1-8b", batch_size=1, seq_len=2048))
    outcome, last = record.outcome, record.phases[-1]
    assert outcome.status is OutcomeStatus.OOM
    assert outcome.phase is last.name is PhaseName.BACKWARD
    assert outcome.step == last.step == 0
    assert outcome.requested_bytes == 14_336 * 4096 * 2, "the gradient of a matrix of the MLP"
    assert outcome.message is not None
    assert outcome.message.startswith("CUDA out of memory. Tried to allocate 112.00 MiB. GPU 0 has a total")
    assert [p.is_complete for p in record.phases] == [True] * (len(record.phases) - 1) + [False]
    assert last.num_ooms == 1
    assert last.components is None
    assert record.peak is not None
    assert record.device is not None
    assert record.peak.device_used_bytes is not None
    assert record.peak.device_used_bytes <= record.device.total_bytes
    assert record.steady is None


def test_a_model_of_100_gb_takes_little_of_the_hosts_memory(tmp_path: Path) -> None:
    model = a_model(
        tmp_path / "wide",
        hidden_size=32_768,
        intermediate_size=114_688,
        num_hidden_layers=3,
        num_attention_heads=256,
        num_key_value_heads=8,
        vocab_size=128_256,
    )
    job = a_job(model=model, method="lora", gpu="b200", gpu_memory_bytes=2 * TIB, steps=1)
    script = f"""
        import json, resource, sys
        from profiler.execute.local import run_job
        from profiler.spec.job import JobSpec
        record = run_job(JobSpec.model_validate_json({job.model_dump_json()!r}))
        peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(json.dumps([record.outcome.status, record.peak.allocated_bytes, 1024 * peak_kib]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    told: Any = json.loads(done.stdout)
    status, allocated_bytes, host_bytes = told
    assert status == "ok"
    assert allocated_bytes > 97 * 10**9
    assert host_bytes < 3 * GIB
