from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profiler.cli.app import run_command
from profiler.cli.explain import explain
from profiler.cli.run import run
from profiler.explain import effects as effects_module
from profiler.explain import run as run_module
from profiler.explain.run import ExplainedRun
from profiler.records.schema import Outcome, OutcomeStatus
from profiler.records.store import write_record
from tests.builders import a_job, a_record
from tests.unit.explain.traces import an_effect, an_explained_run
from tests.unit.test_imports import HEAVY, loaded_after

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from profiler.explain.effects import Effect
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

ASK = ["explain", "llama-3.1-8b", "--gpu", "rtx-4090"]


class Explainer:
    """Stands in for the parts that run jobs: keeps what it was asked."""

    def __init__(self) -> None:
        self.spec: JobSpec | None = None
        self.options: dict[str, Any] = {}
        self.num_looked = 0
        self.answer = an_explained_run()

    def run_explained(self, spec: JobSpec, **options: Any) -> ExplainedRun:
        self.spec, self.options = spec, options
        if options["snapshot_path"] is not None:
            options["snapshot_path"].write_bytes(b"torch's own")
        return self.answer

    def find_effects(self, _record: Record, _events: object, **_options: Any) -> tuple[Effect, ...]:
        self.num_looked += 1
        return (an_effect(),)


@pytest.fixture
def explainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Explainer:
    """Runs in an empty directory, with no job ever started."""
    explainer = Explainer()
    monkeypatch.setattr(run_module, "run_explained", explainer.run_explained)
    monkeypatch.setattr(effects_module, "find_effects", explainer.find_effects)
    monkeypatch.chdir(tmp_path)
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    return explainer


def test_help(
    snapshot: SnapshotAssertion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run_command(["explain", "--help"]) == 0
    assert capsys.readouterr().out == snapshot


def test_it_takes_every_flag_of_a_job_that_run_takes() -> None:
    own, of_run = (set(inspect.signature(command).parameters) for command in (explain, run))
    assert of_run - {"dry_run"} <= own


def test_what_is_said_is_on_stdout_alone(explainer: Explainer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(ASK) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "What was allocated at the peak" in captured.out
    assert "--loop trainer" in captured.out
    assert explainer.spec == a_job()
    assert list(Path().iterdir()) == []


def test_changes_are_not_looked_for_where_nobody_wants_them(explainer: Explainer) -> None:
    assert run_command([*ASK, "--no-suggest"]) == 0
    assert explainer.num_looked == 0


def test_json_is_the_whole_tree(explainer: Explainer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*ASK, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    explanation = tree["explanation"]
    total = sum(component["size_bytes"] for component in explanation["components"])
    assert total == explanation["instant"]["allocated_bytes"] == tree["record"]["peak"]["allocated_bytes"]
    assert [change["flags"] for change in tree["changes"]] == ["--loop trainer"]
    assert explainer.num_looked == 1


@pytest.mark.usefixtures("explainer")
def test_everything_that_was_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*ASK, "--html", "why.html", "--snapshot", "peak.pickle", "--out", "why"]) == 0
    names = ["why.html", "why/explanation.html", "why/explanation.json", "peak.pickle"]
    assert capsys.readouterr().out.splitlines()[-4:] == [f"Wrote {name}" for name in names]
    assert all(Path(name).stat().st_size for name in names)
    assert Path("why.html").read_text() == Path("why/explanation.html").read_text()
    assert json.loads(Path("why/explanation.json").read_text())["changes"]


def test_a_record_is_explained_by_its_job_and_flags_change_it(explainer: Explainer) -> None:
    spec = a_job(method={"kind": "lora", "rank": 64}, seq_len=512)
    path = write_record(Path("records"), a_record(spec=spec))
    assert run_command(["explain", str(path)]) == 0
    assert explainer.spec == spec
    assert run_command(["explain", str(path), "--method", "qlora", "--gpu", "a100-80gb"]) == 0
    assert explainer.spec == a_job(method={"kind": "qlora", "rank": 64}, seq_len=512, gpu="a100-80gb")


@pytest.mark.usefixtures("explainer")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.json"], "error: none.json is no record: it cannot be read"),
        (["none.json", "--config", "job.yaml"], "error: a record and --config both name a job"),
        (["llama-3.1-8b", "--timeout", "0"], "error: --timeout: '0' is no number of seconds above 0"),
        (["llama-3.1-8b", "--batch-size", "0"], "error: --batch-size"),
        ([], "error: no model is named"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["explain", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(said)
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [(OutcomeStatus.ERROR, 1), (OutcomeStatus.KILLED, 1), (OutcomeStatus.TIMEOUT, 124)],
)
def test_a_job_that_failed_is_shown_as_run_shows_it(
    explainer: Explainer, status: OutcomeStatus, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    record = a_record(outcome=Outcome(status=status, message="what it said last"))
    explainer.answer = ExplainedRun(record=record, explanation=None)
    assert run_command([*ASK, "--html", "why.html"]) == exit_code
    assert "what it said last" in capsys.readouterr().out
    assert explainer.num_looked == 0
    assert not Path("why.html").exists()


def test_help_imports_nothing_heavy() -> None:
    code = "from profiler.cli.app import run_command\nrun_command(['explain', '--help'])"
    assert not loaded_after(code) & HEAVY
