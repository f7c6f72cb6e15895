"""Every optimizer, precision, attention and kind of checkpointing: that it runs, and what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.jobs.choices import Optimizer, Precision
from profiler.records.schema import OutcomeStatus, PhaseName, Record
from tests.virtual.jobs import a_job, a_model, components, run_warm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.virtual.harness import WarmMachines


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


# Full fine-tuning of float16 weights leaves the GradScaler gradients that it refuses to unscale.
@pytest.mark.parametrize("precision", [one for one in Precision if one is not Precision.FP16_AUTOCAST])
def test_every_precision_keeps_weights_gradients_and_moments_in_its_type(
    precision: Precision, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    record = run_warm(virtual_gpu, a_job(model=a_model(tmp_path / "model"), precision=precision))
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
    in_float32 = {Precision.FP32, Precision.BF16_AMP, Precision.FP16_AMP}
    element_bytes = 4 if precision in in_float32 else 2
    expected_bytes = sum(block_bytes(n, element_bytes) for n in llama_parameters())
    held = components(record, PhaseName.STEP, 2)
    assert held.weights_bytes == held.gradients_bytes == expected_bytes
    assert held.optimizer_bytes == 2 * expected_bytes
    # GradScaler's scale and growth count.
    assert held.other_bytes == (1024 if precision is Precision.FP16_AMP else 0)
    assert record.parameters is not None
    assert record.parameters.total == record.parameters.trainable == sum(llama_parameters())


@pytest.mark.parametrize("precision", ["bf16-autocast", "fp16-autocast"])
def test_autocast_over_16_bit_weights_trains_adapters_in_float32(
    precision: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_job(model=a_model(tmp_path / "model"), method="lora", gradient_checkpointing=False)
    plain, under = (
        run_warm(virtual_gpu, job.model_copy(update={"precision": Precision(name)}))
        for name in (precision.removesuffix("-autocast"), precision)
    )
    held, of_plain = (components(record, PhaseName.STEP, 2) for record in (under, plain))
    assert held.weights_bytes == of_plain.weights_bytes == sum(block_bytes(n, 2) for n in llama_parameters())
    assert held.adapter_bytes == held.gradients_bytes == of_plain.adapter_bytes
    assert held.optimizer_bytes == 2 * held.adapter_bytes
    # Adapters are multiplied in 16 bits: no float32 copy of their inputs is kept.
    kept, kept_of_plain = (components(record, PhaseName.FORWARD, 2) for record in (under, plain))
    assert kept.activations_bytes < kept_of_plain.activations_bytes


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
