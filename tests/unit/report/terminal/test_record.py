from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from profiler.records.build import build_record
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName, Record, ValueReads
from profiler.report.base.describe import describe_job
from profiler.report.terminal.record import show_record
from profiler.units import GIB
from tests.builders import AT, a_job, a_real_device, a_record, a_report, a_run

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

OOM = Outcome(
    status=OutcomeStatus.OOM,
    phase=PhaseName.FORWARD,
    step=0,
    message="CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.52 GiB.",
    requested_bytes=2 * GIB,
)


def shown(record: Record, *, path: Path | None = None, is_terminal: bool = False, width: int = 120) -> str:
    file = io.StringIO()
    show_record(
        Console(file=file, width=width, force_terminal=is_terminal, highlight=False), record, path=path
    )
    return file.getvalue()


def without_padding(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_a_virtual_run_that_fits(snapshot: SnapshotAssertion) -> None:
    record = a_record().model_copy(update={"notes": ("alloc_conf adopted from PYTORCH_ALLOC_CONF",)})
    assert without_padding(shown(record, path=Path("results/adhoc/records/a.json"))) == snapshot


def test_a_real_run_that_fits(snapshot: SnapshotAssertion) -> None:
    assert without_padding(shown(a_record(report=a_report(device=a_real_device())))) == snapshot


def test_a_run_out_of_memory(snapshot: SnapshotAssertion) -> None:
    assert without_padding(shown(a_record(report=a_report(a_run()[:4]), outcome=OOM))) == snapshot


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(
            status=OutcomeStatus.ERROR, phase=PhaseName.LOAD, message="ValueError: no such file\nsecond line"
        ),
        Outcome(status=OutcomeStatus.TIMEOUT, phase=PhaseName.BACKWARD, step=2),
        Outcome(
            status=OutcomeStatus.KILLED,
            phase=PhaseName.LOAD,
            signal=9,
            inferred_from="the exit status of the process",
        ),
    ],
    ids=lambda outcome: outcome.status,
)
def test_a_run_that_ended_early(outcome: Outcome, snapshot: SnapshotAssertion) -> None:
    record = a_record(report=a_report(a_run()[:3]), outcome=outcome)
    assert without_padding(shown(record)) == snapshot


def test_a_run_that_ended_before_its_first_phase(snapshot: SnapshotAssertion) -> None:
    outcome = Outcome(status=OutcomeStatus.ERROR, message="ImportError: no module")
    record = build_record(spec=a_job(), report=None, outcome=outcome, created_at=AT)
    assert without_padding(shown(record)) == snapshot


def test_times_are_shown_where_there_are_any() -> None:
    timed = tuple(phase.model_copy(update={"elapsed_s": 0.25}) for phase in a_run()[:2])
    assert "0.250 s" in shown(a_record(report=a_report(timed, device=a_real_device())))
    assert " s\n" not in shown(a_record()).replace("tokens", "")


def test_managed_memory_and_unknown_reads_are_told() -> None:
    reads = ValueReads(unknown=3, sites=("model.py:10",))
    text = shown(a_record(report=a_report(managed_bytes=GIB, value_reads=reads)))
    assert "1.00 GiB of managed memory" in text
    assert "3 reads of values that a virtual card cannot know: model.py:10" in text


def test_a_virtual_figure_is_always_called_virtual() -> None:
    text = shown(a_record())
    assert text.count("VIRTUAL GPU") == 1
    assert "virtual device" in text
    assert "(virtual NVIDIA GeForce RTX 4090)" in text
    assert "measured" not in text.replace("nothing here was measured on hardware", "")


def test_a_real_figure_is_never_called_virtual() -> None:
    text = shown(a_record(report=a_report(device=a_real_device())))
    assert "virtual" not in text.lower()
    assert "sampled every 10 ms" in text


def test_a_file_gets_neither_colour_nor_bars() -> None:
    assert "\x1b" not in shown(a_record(), path=Path("a.json"))


def test_a_terminal_gets_colour() -> None:
    assert "\x1b[" in shown(a_record(), is_terminal=True)


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(a_record(), is_terminal=True)
    assert not [code for code in ("\x1b[32m", "\x1b[1;32m", "\x1b[35m") if code in text]


@given(st.text(min_size=1))
def test_text_from_elsewhere_cannot_drive_the_terminal(text: str) -> None:
    outcome = Outcome(status=OutcomeStatus.ERROR, message=f"\x1b[31m[bold]{text}\x07")
    output = shown(a_record(spec=a_job(model=f"a{text}"), outcome=outcome))
    assert all(character.isprintable() or character == "\n" for character in output)
    assert "\\x1b[31m[bold]" in output


def test_the_path_is_the_last_line() -> None:
    assert shown(a_record(), path=Path("out/a.json")).splitlines()[-1] == "Wrote out/a.json"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"method": "full"}, "full fine-tuning"),
        ({"method": {"kind": "int8-lora", "rank": 8}}, "int8-lora (rank 8)"),
        ({"method": {"kind": "qlora", "double_quant": False}}, "qlora (nf4, rank 16)"),
        ({"gradient_checkpointing": False}, "no gradient checkpointing"),
        ({"gradient_checkpointing": {"reentrant": True}}, "reentrant gradient checkpointing"),
        ({"alloc_conf": "expandable_segments:True"}, "expandable_segments:True"),
        ({"method": {"kind": "lora", "use_dora": True}}, "lora (rank 16, dora)"),
        ({"method": {"kind": "lora", "use_rslora": True}}, "lora (rank 16, rslora)"),
        (
            {"method": {"kind": "lora", "autocast_adapter_dtype": False}},
            "lora (rank 16, adapters in 16 bits)",
        ),
        ({"method": {"kind": "lora", "modules_to_save": "lm_head"}}, "lora (rank 16, besides lm_head)"),
        ({"foreach": False}, "adamw_torch without foreach"),
        ({"neftune_alpha": 5}, "NEFTune 5"),
        ({"accumulation": 4}, "accumulation 4"),
        ({"loss": "chunked"}, "chunked loss"),
        ({"method": "inference"}, "inference (not quantized), bf16, batch 1 x 2048 tokens + 32 new, sdpa"),
        ({"method": {"kind": "inference", "quant": "int8"}}, "inference (int8), bf16"),
        ({"method": {"kind": "inference", "quant": "nf4"}}, "inference (nf4, double quantization)"),
        ({"task": "token-classification", "num_labels": 9}, "token-classification (9 labels)"),
        ({"num_labels": 1}, "sequence-classification (1 label)"),
        ({"target_len": 64}, "seq2seq-lm (64 target tokens)"),
        ({"task": "image-text-to-text"}, "(1 image a row, 448 pixels a side)"),
        ({"images": 2}, "image-text-to-text (2 images a row"),
    ],
)
def test_a_job_is_told_from_its_neighbours(changes: dict[str, object], part: str) -> None:
    assert part in describe_job(a_job(**changes))
