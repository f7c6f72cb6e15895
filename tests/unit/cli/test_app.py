from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from profiler import __version__
from profiler.cli.app import run_command
from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.hardware.catalogue import load_catalogue
from profiler.jobs.choices import InferenceQuant
from profiler.jobs.job import Inference
from profiler.jobs.presets import list_presets
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName, Record
from profiler.records.store import read_record
from tests.builders import ROOT, a_job, a_phase, a_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

    from profiler.jobs.job import JobSpec

COMMANDS = ["run", "estimate", "plan", "sweep", "pack", "export", "gpus", "models", "doctor"]
SLOW_DOCTOR = pytest.param("doctor", marks=pytest.mark.slow)  # it starts a virtual card


class Runner:
    """Stands in for the part that runs jobs: keeps what it was asked, and answers with `answer`."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.answer: Callable[[JobSpec], Record] = lambda spec: a_record(
            spec=spec.model_copy(update={"gpu": "rtx-4090"})
        )

    def run_job(self, spec: JobSpec, **options: Any) -> Record:
        self.asked = {"spec": spec, **options}
        options["on_phase"](a_phase(PhaseName.LOAD))
        options["on_phase"](a_phase(PhaseName.FORWARD, 1))
        return self.answer(spec)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runner:
    """Runs in an empty directory, with no job ever started."""
    runner = Runner()
    module = ModuleType("profiler.execute.local")
    module.run_job = runner.run_job  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "profiler.execute", ModuleType("profiler.execute"))
    monkeypatch.setitem(sys.modules, "profiler.execute.local", module)
    monkeypatch.chdir(tmp_path)
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    return runner


def ends_with(runner: Runner, outcome: Outcome) -> None:
    runner.answer = lambda spec: a_record(spec=spec.model_copy(update={"gpu": "a40"}), outcome=outcome)


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)], ids=" ".join)
def test_help(
    command: list[str],
    snapshot: SnapshotAssertion,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run_command([*command, "--help"]) == 0
    assert capsys.readouterr().out == snapshot


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([]) == 0
    assert "Usage: peakvram" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"peakvram {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rn"], "error: No such command 'rn'. Did you mean 'run'?"),
        (["run", "x", "--rnk", "2"], "error: No such option: --rnk (Possible options: --rank)"),
        (["run", "x", "y"], "error: Got unexpected extra argument"),
        (["run", "x", "--rank"], "error: Option '--rank' requires an argument."),
        (["run", "x", "--rank", "a"], "error: --rank: expected a whole number, found 'a'"),
        (["run"], "error: no model is named"),
        (["run", "x", "--timeout", "0"], "error: --timeout: '0' is no number of seconds above 0"),
        (["run", "x", "--timeout", "nan"], "error: --timeout: 'nan' is no number of seconds above 0"),
        (["run", "--config", "none.yaml"], "error: cannot read none.yaml: no such file or directory"),
        (["gpus", "rtx-4080x"], "error: unknown GPU 'rtx-4080x'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_a_hint(
    arguments: list[str], said: str, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[0].startswith(said)
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2
    assert captured.out == ""
    assert runner.asked == {}


def test_a_run_shows_its_record_and_writes_it(
    runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", "llama-3.1-8b", "--gpu", "rtx-4090"]) == 0
    captured = capsys.readouterr()
    (path,) = (tmp_path / "results" / "adhoc" / "records").iterdir()
    assert captured.out.splitlines()[-1] == f"Wrote {path.relative_to(tmp_path)}"
    assert "peak allocated 10.00 GiB" in captured.out
    assert "missed; the run counts: 10.00 GiB" in captured.err  # the figures are made up
    assert len(captured.err.splitlines()) == 1
    assert read_record(path) == a_record(spec=a_job())
    assert runner.asked["timeout_s"] is None
    assert runner.asked["allow_busy"] is False


def test_json_is_all_that_is_on_stdout(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "llama-3.1-8b", "--json"]) == 0
    captured = capsys.readouterr()
    assert Record.model_validate_json(captured.out) == a_record(spec=a_job())
    assert captured.err.splitlines()[-1].startswith("Wrote results/adhoc/records/")
    assert runner.asked["spec"].gpu == "auto"


def test_flags_reach_the_job(runner: Runner) -> None:
    line = """
        run org/m --weights pretrained --revision v1 --method qlora --rank 8 --alpha 16 --dropout 0.1
        --targets q,v --quant fp4 --no-double-quant --no-kbit-prepare --compute-dtype float16 --dora --rslora
        --batch-size 2 --seq-len 512 --reentrant --optimizer sgd --precision fp16-amp --attention eager
        --attention-mask padded --loop trainer --steps 4 --eval-batches 5 --eval-batch-size 3
        --eval-accumulation-steps 2 --prediction-loss-only --save --gpu a40 --gpu-memory 2TiB
        --task causal-lm --loss chunked --no-foreach --accumulation 3 --neftune-alpha 0.5
        --modules-to-save lm_head,embed_tokens
        --alloc-conf expandable_segments:True --timeout 60.5 --allow-busy --out there
    """
    assert run_command(line.split()) == 0
    assert runner.asked["timeout_s"] == 60.5
    assert runner.asked["allow_busy"] is True
    method = {
        "kind": "qlora",
        "rank": 8,
        "alpha": 16,
        "dropout": 0.1,
        "targets": ["q", "v"],
        "quant": "fp4",
        "double_quant": False,
        "kbit_prepare": False,
        "compute_dtype": "float16",
        "use_dora": True,
        "use_rslora": True,
        "modules_to_save": ["embed_tokens", "lm_head"],
        "autocast_adapter_dtype": True,
        "trl_casting": False,
    }
    assert runner.asked["spec"].model_dump(mode="json") == {
        "model": "org/m",
        "revision": "v1",
        "weights": "pretrained",
        "task": "causal-lm",
        "method": method,
        "precision": "fp16-amp",
        "optimizer": "sgd",
        "foreach": False,
        "batch_size": 2,
        "accumulation": 3,
        "seq_len": 512,
        "target_len": None,
        "num_labels": 2,
        "images": 1,
        "image_size": 448,
        "gradient_checkpointing": {"enabled": True, "reentrant": True},
        "neftune_alpha": 0.5,
        "attention": "eager",
        "attention_mask": "padded",
        "loss": "chunked",
        "loop": "trainer",
        "steps": 4,
        "eval_batches": 5,
        "eval_batch_size": 3,
        "eval_accumulation_steps": 2,
        "prediction_loss_only": True,
        "save": True,
        "alloc_conf": "expandable_segments:True",
        "gpu": "a40",
        "gpu_memory_bytes": 2 * 2**40,
    }
    assert len(list(Path("there/records").iterdir())) == 1


def test_flags_reach_an_inference_job(runner: Runner) -> None:
    line = "run org/m --method inference --quant int8 --new-tokens 64 --seq-len 128"
    assert run_command(line.split()) == 0
    assert runner.asked["spec"].method == Inference(quant=InferenceQuant.INT8, new_tokens=64)
    assert runner.asked["spec"].seq_len == 128


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (OutcomeStatus.OK, 0),
        (OutcomeStatus.OOM, 0),
        (OutcomeStatus.ERROR, 1),
        (OutcomeStatus.KILLED, 1),
        (OutcomeStatus.TIMEOUT, 124),
    ],
)
def test_how_a_job_ended_is_its_exit_code_and_is_recorded(
    status: OutcomeStatus, code: int, runner: Runner
) -> None:
    ends_with(runner, Outcome(status=status, message="why"))
    assert run_command(["run", "x"]) == code
    (path,) = Path("results/adhoc/records").iterdir()
    assert read_record(path).outcome.status is status


@pytest.mark.parametrize(("kind", "code"), [(ConfigError, 2), (EnvironmentUnfitError, 3)])
def test_a_job_that_cannot_start_is_one_line_and_a_hint(
    kind: type[ConfigError], code: int, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_spec: JobSpec) -> Record:
        raise kind("this torch has no CUDA", hint="install the CUDA build")

    runner.answer = fail
    assert run_command(["run", "x"]) == code
    assert capsys.readouterr().err == "error: this torch has no CUDA\nhint: install the CUDA build\n"
    assert not Path("results").exists()


def test_an_interrupted_run_says_so(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_spec: JobSpec) -> Record:
        raise KeyboardInterrupt

    runner.answer = interrupt
    assert run_command(["run", "x"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_place_that_takes_no_records_is_refused_before_the_run(
    runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    assert run_command(["run", "x", "--out", "file"]) == 2
    assert "is not a directory" in capsys.readouterr().err
    assert runner.asked == {}


def test_figures_are_shown_even_where_they_cannot_be_written(
    runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose_the_place(spec: JobSpec) -> Record:
        Path("results").write_text("")
        return a_record(spec=spec.model_copy(update={"gpu": "a40"}))

    runner.answer = lose_the_place
    assert run_command(["run", "x"]) == 3
    captured = capsys.readouterr()
    assert "peak allocated 10.00 GiB" in captured.out
    assert "Wrote" not in captured.out
    assert captured.err.startswith("error: cannot write results/adhoc/records/")


def test_adopted_allocator_settings_are_told_and_recorded(
    runner: Runner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    reason = "alloc_conf adopted from PYTORCH_CUDA_ALLOC_CONF in the environment"
    assert run_command(["run", "x"]) == 0
    assert capsys.readouterr().err == f"{reason}\n"
    assert runner.asked["spec"].alloc_conf == "expandable_segments:True"
    (path,) = Path("results/adhoc/records").iterdir()
    assert read_record(path).notes == (reason,)


def test_the_cards_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["gpus", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert [card["id"] for card in cards] == list(load_catalogue())
    assert cards[0]["compute_capability"] == "8.9"


def test_one_card_is_shown_with_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["gpus", "a40", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["id"] == "a40"
    assert {figure["name"] for figure in card["figures"]} >= {"total_bytes", "num_sms"}


def test_the_models_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "--json"]) == 0
    presets = json.loads(capsys.readouterr().out)
    assert [preset["id"] for preset in presets] == [preset.id for preset in list_presets()]


def test_models_of_a_text_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "qwen3.5", "--json"]) == 0
    presets = json.loads(capsys.readouterr().out)
    assert [preset["id"] for preset in presets] == [
        preset.id for preset in list_presets() if preset.id.startswith("qwen3.5")
    ]
    assert run_command(["models", "qwen3.5"]) == 0
    assert capsys.readouterr().out.count("Qwen/Qwen3.5-") == len(presets)


def test_one_model_is_shown_with_its_source_and_who_estimates_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "meta-llama/Llama-3.1-8B", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)
    assert (model["id"], model["architecture"]["num_layers"]) == ("llama-3.1-8b", 32)
    assert model["formulas"]["peakvram"] == ["full", "lora", "qlora", "int8-lora", "inference"]
    assert run_command(["models", "llama-3.1-8b"]) == 0
    assert model["config_source"] in capsys.readouterr().out


def test_a_text_that_no_model_has_is_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "mistral-8b"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "error: no model preset has 'mistral-8b' in its id, Hub ids or family",
        "hint: did you mean ministral-8b or mixtral-8x7b or mistral-7b-v0.3?",
    ]


@pytest.mark.parametrize("command", ["gpus", "models"])
def test_a_list_on_a_pipe_has_no_colour(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_diagnosis_is_the_same_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(["doctor"])
    text = capsys.readouterr().out
    assert run_command(["doctor", "--json"]) == code
    diagnosis = json.loads(capsys.readouterr().out)
    assert code == (3 if diagnosis["status"] == "fail" else 0)
    assert [check["name"] in text for check in diagnosis["checks"]] == [True] * len(diagnosis["checks"])


def in_a_terminal(*arguments: str, environ: dict[str, str]) -> str:
    """What a command writes to a real terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "profiler", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environ},
    ):
        os.close(follower)
        chunks = []
        while True:
            try:
                chunk = os.read(leader, 4096)
            except OSError:  # Linux's answer once no process holds the other end
                break
            if not chunk:
                break
            chunks.append(chunk)
    os.close(leader)
    return b"".join(chunks).decode()


def test_a_terminal_gets_colour_unless_it_asks_for_none() -> None:
    assert "\x1b[1m" in in_a_terminal("gpus", environ={"NO_COLOR": ""})
    assert "\x1b[31m" not in in_a_terminal("gpus", "nope", environ={"NO_COLOR": "1"})


@pytest.mark.parametrize("arguments", ["gpus", "gpus --json", "gpus a40", "models", SLOW_DOCTOR])
def test_a_reader_that_goes_away_is_no_error(arguments: str) -> None:
    command = f"{sys.executable} -m profiler {arguments} | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", ["gpus", "gpus --json", SLOW_DOCTOR])
def test_a_full_disk_behind_stdout_is_one_line(arguments: str) -> None:
    command = f"{sys.executable} -m profiler {arguments} > /dev/full"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 3
    assert result.stderr.startswith("error: cannot write to stdout: no space left on device\nhint: ")
