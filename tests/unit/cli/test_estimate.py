from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.cli.estimate import estimate
from profiler.cli.run import run
from profiler.estimate.factors import write_factors
from profiler.formula.catalogue import all_formulas
from tests.builders import ROOT
from tests.unit.fit.by_hand import OTHERS, some_factors, use_formulas_by_hand
from tests.unit.test_imports import HEAVY, loaded_after

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

ASK = ["estimate", "llama-3.1-8b", "--method", "lora", "--gpu", "rtx-4090"]


@pytest.fixture
def _by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_formulas_by_hand(monkeypatch)
    monkeypatch.setattr("profiler.cli.estimate.find_torch_build", lambda: None)  # nothing is derived
    monkeypatch.chdir(tmp_path)
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--seq-len", "8192", "--no-gradient-checkpointing"],
        ["--gpu-memory", "18GiB"],
        ["--gpu-memory", "17.75GiB"],
        ["--no-factors"],
        ["--formula", "rule-of-thumb"],
        ["--all-formulas"],
        ["--all-formulas", "--no-factors"],
    ],
    ids=lambda flags: " ".join(flags) or "fits",
)
@pytest.mark.usefixtures("_by_hand")
def test_what_an_estimate_says(
    flags: list[str], snapshot: SnapshotAssertion, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*ASK, *flags]) == 0
    captured = capsys.readouterr()
    assert "\n".join(line.rstrip() for line in captured.out.splitlines()) == snapshot
    assert captured.err == ""


@pytest.mark.usefixtures("_by_hand")
def test_an_estimate_is_never_called_measured(capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ([], ["--all-formulas"], ["--json"]):
        assert run_command([*ASK, *flags]) == 0
    assert "measured" not in capsys.readouterr().out


@pytest.mark.usefixtures("_by_hand")
def test_json_holds_every_term_in_bytes_and_what_the_factors_come_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command([*ASK, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["spec"]["method"]["kind"], tree["formula"]["id"]) == ("lora", "peakvram")
    assert tree["instant"] == "loss"
    loss = {instant["name"]: instant for instant in tree["instants"]}["loss"]
    assert sum(term["corrected_bytes"] for term in loss["terms"]) == loss["corrected_total_bytes"]
    assert loss["corrected_total_bytes"] == tree["allocated"]["value_bytes"]
    assert tree["allocated"]["low_bytes"] < tree["allocated"]["value_bytes"] < tree["allocated"]["high_bytes"]
    assert tree["device_used"]["value_bytes"] > tree["reserved"]["value_bytes"]
    assert tree["verdict"]["fits"] == "yes"
    room = tree["card"]["total_bytes"] - tree["device_used"]["value_bytes"]
    assert tree["verdict"]["room_bytes"] == room
    assert tree["fitted_on"]["device_kinds"] == ["virtual"]


@pytest.mark.usefixtures("_by_hand")
def test_all_formulas_as_json_hold_the_refusals_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*ASK, "--all-formulas", "--json"]) == 0
    trees = json.loads(capsys.readouterr().out)
    assert [tree["formula"]["id"] for tree in trees] == ["derived", *(formula.id for formula in OTHERS)]
    none_yet = "none was derived for it yet: `peakvram derive` does"
    assert [tree.get("refusal") for tree in trees] == [
        none_yet,
        None,
        None,
        "it speaks of full training only",
    ]
    assert [tree["fitted_on"] is None for tree in trees] == [True, False, True, True]


@pytest.mark.usefixtures("_by_hand")
def test_factors_can_come_from_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    write_factors(Path("mine.json"), some_factors())
    assert run_command([*ASK, "--json"]) == 0
    assert run_command([*ASK, "--json", "--factors", "mine.json"]) == 0
    shipped, mine = capsys.readouterr().out.split("}\n{", maxsplit=1)
    assert json.loads(shipped + "}") == json.loads("{" + mine)


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (
            [*ASK[:2], "--method", "full"],
            "formula peakvram does not speak of this job: it speaks of",
            "--all",
        ),
        ([*ASK, "--factors", "f.json", "--no-factors"], "--factors and --no-factors contradict", "leave out"),
        ([*ASK, "--formula", "peakvram", "--all-formulas"], "--formula names one", "leave out"),
        ([*ASK, "--factors", "none.json"], "cannot read none.json", "`peakvram fit` writes one"),
        (["estimate", "llama-9"], "unknown model 'llama-9'", ""),
        ([*ASK[:2], "--gpu", "rtx-4080x"], "unknown GPU 'rtx-4080x'", "did you mean 'rtx-4080'?"),
        (["estimate"], "no model is named", ""),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("_by_hand")
def test_wrong_usage_is_one_line_and_a_hint(
    arguments: list[str], said: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 2
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()
    assert first.startswith(f"error: {said}")
    assert second.startswith(f"hint: {hint}")
    assert captured.out == ""


def test_an_unknown_formula_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*ASK, "--no-factors", "--formula", "peakvran"]) == 2
    assert capsys.readouterr().err.splitlines()[1].startswith("hint: did you mean peakvram")


def test_a_family_without_shapes_says_what_can_be_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    assert run_command(["estimate", str(tmp_path), "--no-factors", "--gpu", "rtx-4090"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "unheard_of" in first
    assert second.startswith("hint: ")


@pytest.mark.parametrize("formula", [formula.id for formula in all_formulas()])
def test_every_formula_can_be_asked_about_a_job_or_says_why_not(
    formula: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command([*ASK, "--no-factors", "--formula", formula])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "") or (code == 2 and "does not speak of this job" in captured.err)


def test_the_page_shows_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "estimate.md").read_text(encoding="utf-8")
    command, _, after = page.partition("    peakvram ")[2].partition("\n")
    shown = after.partition("```text\n")[2].partition("```\n")[0]
    assert run_command(command.split()) == 0
    said = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown.splitlines() == said


def test_an_estimate_takes_every_flag_of_a_job_that_a_run_takes() -> None:
    of_the_run_alone = {"out", "allow_busy", "timeout", "dry_run"}
    flags = inspect.signature(run).parameters.keys() - of_the_run_alone
    assert flags <= inspect.signature(estimate).parameters.keys()


def test_an_estimate_loads_nothing_heavy() -> None:
    arguments = [*ASK, "--no-factors"]
    code = f"from profiler.cli.app import run_command\nassert run_command({arguments!r}) == 0"
    assert not loaded_after(code) & HEAVY
    assert not loaded_after(code) & {"pyarrow", "huggingface_hub"}
