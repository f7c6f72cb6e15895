"""Kinds of adapters: DoRA trains magnitudes besides and takes more memory, rsLoRA takes none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.records.schema import OutcomeStatus, PhaseName, Record
from tests.virtual.jobs import a_job, a_model, components, phase, run_warm, without_times

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
