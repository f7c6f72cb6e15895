"""trl's loss, which never has all logits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import pytest

from profiler.errors import EnvironmentUnfitError
from profiler.records.schema import OutcomeStatus, PhaseName
from profiler.workload.chunks import chunk_loss
from tests.versions import needs
from tests.virtual.jobs import a_job, a_model, components, phase, run_warm

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from tests.virtual.harness import WarmMachines

TOKENS, WORDS = 2 * 1024, 16_384


@needs(trl="1.16")
@pytest.mark.parametrize(
    ("method", "precision", "loop"),
    [("full", "bf16", "plain"), ("lora", "bf16", "trainer"), ("qlora", "bf16-autocast", "trainer")],
)
def test_logits_of_all_tokens_are_never_there(
    method: str, precision: str, loop: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path / "model", vocab_size=WORDS)
    full, chunked = (
        run_warm(
            virtual_gpu,
            a_job(model=model, method=method, precision=precision, loop=loop, loss=loss, seq_len=1024),
        )
        for loss in ("full", "chunked")
    )
    assert chunked.outcome.status is OutcomeStatus.OK
    assert chunked.value_reads is None or chunked.value_reads.unknown == 0
    logits_bytes = TOKENS * WORDS * 4
    for name in (PhaseName.FORWARD, PhaseName.BACKWARD):
        peaks = [phase(record, name, 1).allocated_peak_bytes for record in (full, chunked)]
        assert peaks[0] - peaks[1] > logits_bytes
    ends = [components(record, PhaseName.BACKWARD, 1) for record in (full, chunked)]
    assert ends[0].gradients_bytes == ends[1].gradients_bytes
    assert chunked.steady == full.steady


def test_without_trl_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl.trainer.utils", None)
    with pytest.raises(EnvironmentUnfitError, match="no trl that has it"):
        chunk_loss(cast("PreTrainedModel", None))
