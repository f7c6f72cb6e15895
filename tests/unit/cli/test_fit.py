from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiler.cli.app import run_command
from profiler.estimate.factors import read_factors
from profiler.records.store import RecordStore
from profiler.units import GIB
from tests.unit.fit.made_up import MODELS, a_measured_job, a_sample, jobs

TRUE = {"weights": 1.4, "activations": 0.6, "optimizer": 2.0}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    store = RecordStore(Path("study"))
    for record in a_sample(TRUE).records:
        store.put(record)
    return store.directory


@pytest.mark.slow
def test_factors_are_written_where_estimates_find_them(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", str(study), "--formula", "megatron", "--out", "tables", "--factors", "mine.json"]
    assert run_command(arguments) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "Wrote mine.json"
    assert "virtual records, models left out" in out
    found = read_factors(Path("mine.json"))
    assert list(found.formulas) == ["megatron"]
    assert found.fitted_on.studies == ("study",)
    assert not Path("tables").exists()


@pytest.mark.slow
def test_the_tables_of_the_tests_are_written_on_request(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", str(study), "--formula", "megatron", "--formula", "orbit2x-inference", "--validate"]
    assert run_command(arguments) == 0
    written = [line.removeprefix("Wrote ") for line in capsys.readouterr().out.splitlines()[-6:]]
    names = ["factors.json", "README.md", "scores.csv", "trust.csv", "terms.csv", "factors.csv"]
    assert written == [f"results/formulas/{name}" for name in names]
    readme = Path("results/formulas/README.md").read_text()
    assert readme.startswith("# Formulas, tested and corrected (virtual)\n")
    assert "| `megatron` | 24 |" in readme
    assert "- `orbit2x-inference`: it speaks of inference" in readme
    assert "\n    peakvram fit study --formula megatron --formula orbit2x-inference --validate\n" in readme
    assert "- `results/formulas/factors.json`: the factors" in readme
    scores = Path("results/formulas/scores.csv").read_text().splitlines()
    assert scores[0] == "formula,figure,stage,num_jobs,median,p90,p95,bias,coverage"
    assert {line.partition(",")[0] for line in scores[1:]} == {"megatron"}


@pytest.mark.slow
def test_text_below_the_mark_of_the_readme_is_kept(study: Path) -> None:
    readme = Path("tables/README.md")
    arguments = ["fit", str(study), "--formula", "megatron", "--validate", "--out", "tables"]
    assert run_command(arguments) == 0
    first = readme.read_text()
    readme.write_text(f"{first}Why megatron is off.\n")
    assert run_command(arguments) == 0
    assert readme.read_text() == f"{first}Why megatron is off.\n"


def test_the_result_as_json(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["fit", str(study), "--formula", "megatron", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fitted_on"]["device_kinds"] == ["virtual"]
    assert told["written"] == ["results/formulas/factors.json"]
    [formula] = told["formulas"]
    assert (formula["formula"], formula["unfitted"]) == ("megatron", None)
    assert formula["trust"][0]["num_failed"] == 0
    assert formula["trust"][0]["let_through"] is None
    assert {(score["figure"], score["stage"]) for score in formula["scores"]} >= {
        ("allocated", "as published"),
        ("reserved", "fitted, models left out"),
    }


def test_records_that_are_none_are_named_and_skipped(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "records" / "broken.json").write_text("{")
    assert run_command(["fit", str(study), "--formula", "megatron"]) == 0
    assert "skipped study/records/broken.json: " in capsys.readouterr().err


def test_a_formula_that_speaks_of_none_of_the_records_is_an_error(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["fit", str(study), "--formula", "orbit2x-inference"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: none of the formulas speaks of enough of these records\n"
    )
    assert not Path("results").exists()


def test_an_unknown_formula_is_an_error(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["fit", str(study), "--formula", "megatro"]) == 2
    assert "did you mean megatron?" in capsys.readouterr().err


def test_virtual_and_real_records_are_fitted_together_only_on_request(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RecordStore(Path("real"))
    for spec in jobs(models=MODELS[:3], methods=["full"], gpu="real"):
        store.put(a_measured_job(spec, allocated=GIB, kind="real"))
    arguments = ["fit", str(study), "real", "--formula", "megatron"]
    assert run_command(arguments) == 2
    assert "fit them apart, or give --mix" in capsys.readouterr().err
    assert run_command([*arguments, "--mix"]) == 0
    assert "60 real and virtual records" in capsys.readouterr().out
    assert read_factors(Path("results/formulas/factors.json")).fitted_on.device_kinds == ("real", "virtual")


def test_a_study_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["fit", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no record in nowhere\nhint: `peakvram sweep` puts them there\n"
    )
