"""Kinds of adapters: DoRA trains magnitudes besides and takes more memory, rsLoRA takes none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.records.schema import OutcomeStatus, PhaseName, Record
from tests.virtual.jobs import a_job, a_model, components, phase, run_forked, run_warm, without_times

if TYPE_CHECKING:
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

# One magnitude an output of each linear module of `TINY_LLAMA`'s two layers, in float32.
NUM_OUTPUTS = (256, 128, 128, 256, 704, 704, 256)


def adapted(virtual_gpu: WarmMachines, model: str, **method: object) -> Record:
    # Without checkpointing, so that every product that DoRA saves for the backward pass is there at once.
    job = a_job(model=model, gradient_checkpointing=False, method={"rank": 8, **method})
    record = run_warm(virtual_gpu, job)
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
    for reading in record.phases:
        assert reading.components is not None
        assert reading.components.total_bytes == reading.allocated_end_bytes
    return record


@pytest.mark.parametrize("kind", ["lora", "qlora", "int8-lora"])
def test_dora_trains_magnitudes_besides_and_takes_more_at_every_peak(
    kind: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path / "model")
    lora = adapted(virtual_gpu, model, kind=kind)
    dora = adapted(virtual_gpu, model, kind=kind, use_dora=True)
    assert lora.parameters is not None
    assert dora.parameters is not None
    assert dora.parameters.trainable - lora.parameters.trainable == 2 * sum(NUM_OUTPUTS)
    of_lora, of_dora = (components(record, PhaseName.ADAPT) for record in (lora, dora))
    magnitudes_bytes = 2 * sum(-(-4 * outputs // 512) * 512 for outputs in NUM_OUTPUTS)
    assert of_dora.adapter_bytes - of_lora.adapter_bytes == magnitudes_bytes
    assert of_dora.weights_bytes == of_lora.weights_bytes
    for name in (PhaseName.FORWARD, PhaseName.BACKWARD, PhaseName.STEP):
        peaks = [phase(record, name, 2).allocated_peak_bytes for record in (lora, dora)]
        assert peaks[1] > peaks[0] + magnitudes_bytes
    assert dora.key != lora.key


def test_rslora_changes_a_number_and_no_byte(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path / "model")
    lora, rslora = (adapted(virtual_gpu, model, kind="lora", use_rslora=used) for used in (False, True))
    assert without_times(rslora) == without_times(lora)
    assert rslora.key != lora.key


def test_trl_casting_gives_embeddings_their_16_bits_back(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path / "model")
    records = [
        run_warm(
            virtual_gpu,
            a_job(model=model, precision="bf16-autocast", method={"kind": "qlora", "trl_casting": used}),
        )
        for used in (False, True)
    ]
    assert [record.outcome.status for record in records] == [OutcomeStatus.OK] * 2
    prepared, cast = (components(record, PhaseName.ADAPT) for record in records)
    # The embeddings and the output matrix, 4096 x 256 each, go from 4 bytes an element to 2.
    assert prepared.weights_bytes - cast.weights_bytes == 2 * 4096 * 256 * 2
    assert cast.adapter_bytes == prepared.adapter_bytes
    assert records[0].key != records[1].key


@pytest.mark.parametrize("kind", ["lora", "qlora", "int8-lora"])
def test_adapters_in_16_bits_take_half(kind: str, virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path / "model")
    wide, narrow = (
        adapted(virtual_gpu, model, kind=kind, rank=64, autocast_adapter_dtype=is_wide)
        for is_wide in (True, False)
    )
    assert (
        2 * components(narrow, PhaseName.ADAPT).adapter_bytes
        == components(wide, PhaseName.ADAPT).adapter_bytes
    )
    assert narrow.parameters == wide.parameters
    ends = [components(record, PhaseName.STEP, 1) for record in (wide, narrow)]
    assert 2 * ends[1].optimizer_bytes == ends[0].optimizer_bytes
    assert 2 * ends[1].gradients_bytes == ends[0].gradients_bytes


@pytest.mark.parametrize("is_tied", [True, False])
def test_modules_to_save_are_trained_as_copies(
    is_tied: bool, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path / "model", tie_word_embeddings=is_tied)
    table = 4096 * 256
    lora = adapted(virtual_gpu, model, kind="lora")
    both = adapted(virtual_gpu, model, kind="lora", modules_to_save="embed_tokens,lm_head")
    assert lora.parameters is not None
    assert both.parameters is not None
    assert both.parameters.trainable - lora.parameters.trainable == 2 * table
    of_lora, of_both = (components(record, PhaseName.ADAPT) for record in (lora, both))
    assert of_both.adapter_bytes - of_lora.adapter_bytes == 2 * 2 * table
    assert of_both.weights_bytes == of_lora.weights_bytes
    notes = [note for note in both.notes if note.startswith("modules_to_save")]
    told = "embed_tokens and lm_head share one tensor in the model, and none once a copy is trained"
    assert notes == ([f"modules_to_save: {told}"] if is_tied else [])


def test_a_module_to_save_that_is_not_there_is_refused(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    job = a_job(
        model=a_model(tmp_path / "model"), method={"kind": "lora", "modules_to_save": "head,lm_hed,wte"}
    )
    told = run_forked(virtual_gpu, job)
    assert told["message"].endswith("has no module 'lm_hed', 'wte'")


def test_noise_of_neftune_is_made_and_let_go(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path / "model")
    calm, noisy = (
        run_warm(virtual_gpu, a_job(model=model, method="lora", neftune_alpha=alpha)) for alpha in (0, 5)
    )
    stream_bytes = 2 * 256 * 256 * 2
    ends = [components(record, PhaseName.FORWARD, 1).activations_bytes for record in (calm, noisy)]
    assert ends[1] - ends[0] == stream_bytes  # what requires a gradient is not what the noise was added to
    assert noisy.steady == calm.steady


def test_without_foreach_the_step_takes_less(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path / "model")
    at_once, one_by_one = (
        phase(run_warm(virtual_gpu, a_job(model=model, foreach=is_foreach)), PhaseName.STEP, 1)
        for is_foreach in (True, False)
    )
    assert one_by_one.allocated_end_bytes == at_once.allocated_end_bytes
    assert one_by_one.allocated_peak_bytes < at_once.allocated_peak_bytes
