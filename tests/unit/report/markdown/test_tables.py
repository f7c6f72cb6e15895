from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.records.schema import Outcome, OutcomeStatus, Parameters, PhaseName, Record
from profiler.report.base.arrange import arrange, by_card, natural
from profiler.report.markdown.tables import study_tables
from profiler.units import GIB
from tests.builders import OK, a_job, a_phase, a_real_device, a_record, a_report, an_environment

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

OOM = Outcome(status=OutcomeStatus.OOM)
INFERRED = Outcome(status=OutcomeStatus.OOM, inferred_from="0123456789abcdef")


def a_cell(
    *,
    gib: float = 1.0,
    outcome: Outcome = OK,
    parameters: int = 8_030_261_248,
    report: Any = None,
    **job: Any,
) -> Record:
    """A record of a job that peaked at `gib` GiB allocated."""
    phases = (a_phase(PhaseName.FORWARD, 0, end=round(gib * GIB)),)
    made = report or a_report(phases, parameters=Parameters(total=parameters, trainable=1))
    return a_record(spec=a_job(**job), report=made, outcome=outcome)


def a_study() -> list[Record]:
    """Two models, two methods, two lengths and two batches, and three settings of one job."""
    small: dict[str, Any] = {"model": "smollm2-135m", "parameters": 134_515_008}
    records = []
    for length in (512, 4096):
        for batch in (1, 2):
            size = length * batch / 1024
            shape: dict[str, Any] = {"seq_len": length, "batch_size": batch}
            records.append(a_cell(gib=size, method="lora", **shape, **small))
            records.append(a_cell(gib=2 * size, method="full", **shape, **small))
            records.append(a_cell(gib=6 + size, method="qlora", **shape, outcome=OOM if size == 8 else OK))
            inferred = INFERRED if size > 0.5 else OOM
            records.append(a_cell(method="full", **shape, outcome=inferred))
    records += [a_cell(gib=5.5, seq_len=512, optimizer=optimizer) for optimizer in ("sgd", "adafactor")]
    records += [
        a_cell(gib=7 + rank / 8, seq_len=512, method={"kind": "qlora", "rank": rank}) for rank in (8, 128)
    ]
    records.append(a_cell(gib=3, model="/home/me/my|model", attention="eager", seq_len=64))
    return records


def tables_of(records: list[Record], name: str = "study") -> str:
    return study_tables(records, name=name, place=f"results/{name}")


def test_the_tables_of_a_study(snapshot: SnapshotAssertion) -> None:
    assert tables_of(a_study()) == snapshot


def test_every_heading_says_that_the_figures_are_virtual() -> None:
    headings = [line for line in tables_of(a_study()).splitlines() if line.startswith("#")]
    assert len(headings) > 5
    assert all("virtual" in heading for heading in headings)


def test_real_cards_are_called_real_and_stand_apart() -> None:
    report = a_report((a_phase(PhaseName.FORWARD, 0),), device=a_real_device())
    real = [a_cell(report=report, seq_len=length, gpu="real") for length in (512, 1024)]
    text = tables_of([*real, *(a_cell(seq_len=length) for length in (512, 1024))])
    assert "# study: tables (real and virtual)" in text
    assert "## real NVIDIA A100-SXM4-80GB (nvidia-a100-sxm4-80gb)" in text
    part = text.partition("## real")[2].partition("\n## ")[0]
    headings = [line for line in part.splitlines() if line.startswith("#")]
    assert all("real" in heading and "virtual" not in heading for heading in headings)


def test_figures_of_other_versions_are_never_in_one_table() -> None:
    old = a_report((a_phase(PhaseName.FORWARD, 0),), environment=an_environment(torch="2.13.0"))
    text = tables_of([a_cell(report=old, seq_len=512), a_cell(report=old, seq_len=64), *a_study()])
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## virtual NVIDIA GeForce RTX 4090 (rtx-4090), 23.52 GiB",
        "## virtual NVIDIA GeForce RTX 4090 (rtx-4090), 23.52 GiB",
    ]
    assert "torch 2.13.0" in text
    assert "torch 2.14.1" in text


def test_every_table_names_its_records_and_versions() -> None:
    lines = tables_of(a_study()).splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("| :--")]
    assert len(starts) > 5
    for start in starts:
        above = next(line for line in reversed(lines[: start - 1]) if line)
        assert "Records: `results/study`. torch 2.14.1, peakvram 0.1.0." in above


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (OutcomeStatus.ERROR, "failed"),
        (OutcomeStatus.TIMEOUT, "time limit"),
        (OutcomeStatus.KILLED, "killed"),
    ],
)
def test_a_job_that_failed_shows_no_figure(status: OutcomeStatus, shown: str) -> None:
    text = tables_of([a_cell(seq_len=512), a_cell(seq_len=1024, outcome=Outcome(status=status))])
    assert f"| llama-3.1-8b | qlora r16 | 1.42 | {shown} |" in text


def test_a_job_that_held_more_than_its_card_does_not_fit() -> None:
    text = tables_of([a_cell(gib=gib, seq_len=512, batch_size=batch) for batch, gib in ((1, 9), (2, 30))])
    assert "| llama-3.1-8b | qlora r16 | 1 |" in text
    assert "| llama-3.1-8b | qlora r16 | 9.42 | 30.42 |" in text


def test_the_place_of_a_local_model_is_not_told() -> None:
    assert "/home/me" not in tables_of(a_study())


def test_one_changed_setting_is_shown_beside_the_usual_one() -> None:
    (card,) = by_card(a_study())
    by_key = {contrast.key: list(contrast.records) for contrast in arrange(card).contrasts}
    assert by_key == {"optimizer": ["adafactor", "adamw_torch", "sgd"], "method.rank": ["8", "16", "128"]}


def test_the_notes_of_a_job_stand_below_its_table() -> None:
    alone = a_cell(model="gpt2", report=a_report(notes=("never fed: *a_tower*", "logits")))
    text = tables_of([*a_study(), alone])
    below = text.split("Other jobs")[1]
    lines = [line for line in below.splitlines() if line.startswith("- ")]
    assert [line.partition(" attention: ")[2] for line in lines] == [
        "never fed: \\*a\\_tower\\*",
        "logits",
    ]
    assert all(line.startswith("- gpt2, qlora") for line in lines)


def test_inference_stands_apart_and_is_not_said_to_train() -> None:
    def job(length: int, **changes: Any) -> Record:
        return a_record(spec=a_job(seq_len=length, **changes))

    records = [job(512), job(1024), job(512, method="inference"), job(1024, method="inference")]
    text = study_tables(records, name="study", place="records")
    grids = [line for line in text.splitlines() if line.startswith("### ")]
    assert len(grids) == 2
    assert sum("adamw" in line for line in grids) == sum("checkpointing" in line for line in grids) == 1


def test_a_record_without_a_card_is_counted() -> None:
    lost = a_cell(seq_len=64).model_copy(update={"device": None, "environment": None})
    assert "1 more records tell of no card" in tables_of([lost, *a_study()])


SHAPES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["llama-3.1-8b", "smollm2-135m", "gpt2"]),
        "method": st.sampled_from(["full", "lora", "qlora", {"kind": "lora", "rank": 8}]),
        "seq_len": st.sampled_from([512, 1024, 2048]),
        "batch_size": st.sampled_from([1, 2]),
        "optimizer": st.sampled_from(["adamw_torch", "sgd"]),
        "gradient_checkpointing": st.booleans(),
    }
)


@settings(max_examples=60)
@given(jobs=st.lists(SHAPES, min_size=1, max_size=12))
def test_every_record_is_in_a_table_and_none_shares_a_cell(jobs: list[dict[str, Any]]) -> None:
    records = list({record.key: record for record in (a_cell(**job) for job in jobs)}.values())
    (card,) = by_card(records)
    arrangement = arrange(card)
    in_grids = [record.key for grid in arrangement.grids for record in grid.cells.values()]
    compared = {record.key for contrast in arrangement.contrasts for record in contrast.records.values()}
    others = {record.key for record in arrangement.others}
    assert len(set(in_grids)) == len(in_grids)
    assert set(in_grids) | compared | others == {record.key for record in records}
    assert not others & (set(in_grids) | compared)
    for (_, (length, batch)), record in (item for grid in arrangement.grids for item in grid.cells.items()):
        assert (record.spec.seq_len, record.spec.batch_size) == (length, batch)


@given(name=st.text(max_size=20))
def test_no_name_breaks_a_table(name: str) -> None:
    text = tables_of([a_cell(model=f"a{name}", seq_len=length) for length in (512, 1024)])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {5}
    assert all(character.isprintable() or character == "\n" for character in text)


def test_numbers_sort_as_numbers() -> None:
    assert sorted(["r16", "r8", "full", "r128"], key=natural) == ["full", "r8", "r16", "r128"]
