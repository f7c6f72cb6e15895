"""Rows packed into one without padding, told apart by their position ids."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from profiler.jobs.choices import AttentionMask
from profiler.records.schema import PhaseName
from profiler.workload.batch import make_batch
from tests.versions import needs
from tests.virtual.jobs import a_job, a_model, components, phase, run_forked, run_warm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

MAMBA: dict[str, Any] = {
    "model_type": "mamba",
    "architectures": ["MambaForCausalLM"],
    "state_size": 8,
    "num_hidden_layers": 2,
}


def test_a_packed_batch_is_what_transformers_collator_makes_of_its_rows() -> None:
    from transformers import DataCollatorWithFlattening

    job = a_job(model="x", batch_size=3, seq_len=5)
    model: Any = SimpleNamespace(config=SimpleNamespace(vocab_size=100))
    rows = make_batch(job, model, number=7)["input_ids"]
    theirs = DataCollatorWithFlattening()([{"input_ids": row.tolist()} for row in rows])
    packed = job.model_copy(update={"attention_mask": AttentionMask.PACKED})
    ours = make_batch(packed, model, number=7)
    assert list(ours) == list(theirs)
    assert all(ours[name].equal(theirs[name]) for name in ours)


@needs(transformers="4.53")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_are_kept_apart_by_a_mask_of_all_their_tokens(
    attention: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path / "model")
    rows, packed = (
        run_warm(virtual_gpu, a_job(model=model, attention=attention, attention_mask=mask, batch_size=3))
        for mask in ("none", "packed")
    )
    assert packed.value_reads is None or packed.value_reads.unknown == 0
    tokens = 3 * 256
    of_rows, of_packed = (components(record, PhaseName.FORWARD, 1) for record in (rows, packed))
    assert of_packed.batch_bytes - of_rows.batch_bytes == tokens * 8
    peaks = [phase(record, PhaseName.FORWARD, 1).allocated_peak_bytes for record in (rows, packed)]
    assert peaks[1] - peaks[0] > tokens * tokens


@needs(transformers="4.53")
def test_what_does_not_look_at_positions_is_refused(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path / "model", **MAMBA)
    told = run_forked(virtual_gpu, a_job(model=model, attention="eager", attention_mask="packed"))
    assert "whose layers do not look at position ids" in told["message"]
