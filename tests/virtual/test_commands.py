"""The commands as a user runs them, and what bad input is answered with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from profiler.hardware.catalogue import load_catalogue
from profiler.jobs.presets import list_presets
from profiler.records.schema import OutcomeStatus, PhaseName, Record
from tests.builders import ROOT
from tests.versions import needs, since
from tests.virtual.jobs import TINY_LLAMA, a_job, a_model, run_forked, run_warm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

SECRET = "hf_a_token_that_nobody_may_read"
DAMAGED = (
    ("incomplete metadata", "header too large")
    if since(safetensors="0.6")
    else ("MetadataIncompleteBuffer", "HeaderTooLarge")
)
"""What safetensors says of a file that is cut, and of one whose first bytes are spoilt."""


def peakvram(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a directory, where it finds neither a GPU nor the Hub."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"} | variables
    return subprocess.run(
        [sys.executable, "-m", "profiler", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=directory,
        env=environment,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *, code: int, directory: Path) -> str:
    """One line and a hint, nothing else said, nothing written. Returns the line."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert not (directory / "results").exists()
    return error.removeprefix("error: ")


# ---- what goes well ----


def test_the_quickstart_prints_the_tables_and_the_verdict(tmp_path: Path) -> None:
    arguments = "run llama-3.1-8b --method qlora --gpu rtx-4090"
    assert f'bin/peakvram" {arguments} "$@"' in (ROOT / "scripts" / "quickstart").read_text()
    quickstart = peakvram(tmp_path, *arguments.split())
    assert quickstart.returncode == 0, quickstart.stderr
    assert quickstart.stderr == ""
    lines = quickstart.stdout.splitlines()
    assert lines[0].startswith("llama-3.1-8b, qlora (nf4, double quantization, rank 16), bf16")
    assert any(line.startswith("VIRTUAL GPU: ") for line in lines)
    assert any(line.split() == ["zero_grad", "2", *line.split()[2:]] for line in lines)
    assert any(line.startswith("peak allocated ") and ": fits, " in line for line in lines)
    assert lines[-1].startswith("Wrote results/adhoc/records/llama-3.1-8b--qlora--rtx-4090--")
    assert "measured" not in quickstart.stdout.replace("nothing here was measured on hardware", "")


def test_json_is_all_there_is_on_stdout_and_the_same_in_the_file(tmp_path: Path) -> None:
    model = a_model(tmp_path / "model")
    options = ["--gpu", "rtx-4090", "--method", "lora", "--seq-len", "128", "--steps", "1", "--json"]
    done = peakvram(tmp_path, "run", model, *options, HF_TOKEN=SECRET, WANDB_API_KEY=SECRET)
    assert done.returncode == 0, done.stderr
    record = Record.model_validate_json(done.stdout)
    assert record.outcome.status is OutcomeStatus.OK
    (path,) = (tmp_path / "results" / "adhoc" / "records").iterdir()
    assert Record.model_validate_json(path.read_text()) == record
    assert done.stderr.strip().endswith(path.name)
    assert SECRET not in done.stdout
    assert SECRET not in path.read_text()
    assert record.environment is not None
    assert record.environment.variables["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in record.environment.variables


def test_out_of_memory_is_a_result(tmp_path: Path) -> None:
    done = peakvram(tmp_path, "run", "llama-3.1-8b", "--method", "full", "--gpu", "rtx-4090")
    assert (done.returncode, done.stderr) == (0, "")
    # transformers 4 leaves 126 MiB more reserved when it has loaded: a larger request is the first to fail.
    asked = "56.00 MiB" if since(transformers="5") else "112.00 MiB"
    assert f"does not fit, out of memory in backward of step 0, asking for {asked} more" in done.stdout
    assert f"CUDA out of memory. Tried to allocate {asked}" in done.stdout
    assert "backward (failed)" in done.stdout
    (path,) = (tmp_path / "results" / "adhoc" / "records").iterdir()
    record = Record.model_validate_json(path.read_text())
    assert (record.outcome.status, record.outcome.phase) == (OutcomeStatus.OOM, PhaseName.BACKWARD)


@pytest.mark.parametrize("command", ["gpus", "models"])
def test_lists_come_as_text_and_as_json(command: str, tmp_path: Path) -> None:
    expected = list(load_catalogue()) if command == "gpus" else [preset.id for preset in list_presets()]
    as_text, as_json = peakvram(tmp_path, command), peakvram(tmp_path, command, "--json")
    assert (as_text.returncode, as_text.stderr) == (as_json.returncode, as_json.stderr) == (0, "")
    assert [item["id"] for item in json.loads(as_json.stdout)] == expected
    assert [name for name in expected if name not in as_text.stdout] == []


def test_the_doctor_starts_a_virtual_card(tmp_path: Path) -> None:
    done = peakvram(tmp_path, "doctor", "--json")
    diagnosis = json.loads(done.stdout)
    assert done.returncode == (3 if diagnosis["status"] == "fail" else 0)
    found = {check["detail"]: check["status"] for check in diagnosis["checks"]}
    assert found["starts: NVIDIA GeForce RTX 4090 1024 MiB reserved"] == "ok"


# ---- what is refused before anything is started ----


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("llama-3.1-8x", 2, "unknown model 'llama-3.1-8x'"),
        ("smollm2-135m --gpu rtx-4080x", 2, "unknown GPU 'rtx-4080x'"),
        ("smollm2-135m --method qlra", 2, "--method: there is no method 'qlra'"),
        ("smollm2-135m --rank 0", 2, "--rank: must be at least 1, not 0"),
        ("smollm2-135m --seq-len -1", 2, "--seq-len: must be at least 1, not -1"),
        ("smollm2-135m --seq-len 99999999999999999999", 2, "--seq-len: must be at most 16777216, not"),
        ("smollm2-135m --batch-size 1e99", 2, "--batch-size: expected a whole number"),
        ("smollm2-135m --steps 0", 2, "--steps: must be at least 1, not 0"),
        ("smollm2-135m --gpu rtx-4090 --gpu-memory 100MiB", 2, "a card of 100.00 MiB has no room for a CUDA"),
        ("smollm2-135m --gpu-memory much", 2, "--gpu-memory: 'much' is not a size"),
        ("smollm2-135m --attention flash_attention_2", 3, "flash_attention_2 needs the flash-attn package"),
        ("smollm2-135m --gpu real", 3, "no NVIDIA driver: libnvidia-ml.so.1 is not on this machine"),
        ("./empty", 2, "directory ./empty has no config.json"),
        ("./cut", 2, "is not JSON"),
        ("./config.json", 2, "'./config.json' is a file"),
        ("./nowhere", 2, "there is no directory './nowhere'"),
    ],
    ids=lambda value: value if isinstance(value, str) and value[0] in "sl." else "",
)
def test_bad_input_is_one_line_with_a_hint(arguments: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "config.json").write_text(json.dumps(dict(TINY_LLAMA))[:60])
    (tmp_path / "config.json").write_text("{}")
    done = peakvram(tmp_path, "run", *arguments.split())
    assert said in assert_refused(done, code=code, directory=tmp_path)


def test_a_torch_without_cuda_is_told_from_its_version_alone(tmp_path: Path) -> None:
    package = tmp_path / "elsewhere" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it need not be imported')\n")
    (package / "version.py").write_text("__version__ = '2.14.1+cpu'\ncuda = None\n")
    path = f"{package.parent}:{ROOT}"
    done = peakvram(tmp_path, "run", "smollm2-135m", "--gpu", "rtx-4090", PYTHONPATH=path)
    said = assert_refused(done, code=3, directory=tmp_path)
    assert said == "the virtual GPU needs the CUDA build of torch; torch 2.14.1+cpu has no CUDA"


# ---- what the worker refuses ----


def test_a_hub_id_without_a_network_is_refused(tmp_path: Path) -> None:
    done = peakvram(tmp_path, "run", "nobody/nothing", "--gpu", "rtx-4090")
    said = assert_refused(done, code=2, directory=tmp_path)
    assert said.startswith("the config of 'nobody/nothing' cannot be loaded: ")
    assert "offline, use a preset or a directory" in done.stderr


def refusal(virtual_gpu: WarmMachines, model: str, **changes: Any) -> tuple[str, str]:
    """The message and the hint that a job is refused with; neither is more than a line."""
    told = run_forked(virtual_gpu, a_job(**{"model": model, "steps": 1} | changes))
    assert "exit_code" in told, told["outcome"]
    assert told["exit_code"] == 2
    assert told["hint"]
    assert "\n" not in told["message"] + told["hint"]
    assert len(told["message"]) < 400
    return told["message"], told["hint"]


def test_a_length_beyond_the_models_positions_is_refused(virtual_gpu: WarmMachines) -> None:
    assert refusal(virtual_gpu, "gpt2", seq_len=2048) == (
        "gpt2 has positions for 1024 tokens, not for 2048",
        "choose --seq-len 1024 or less",
    )
    told = run_warm(virtual_gpu, a_job(model="gpt2", method="lora", seq_len=1024, steps=1))
    assert told.outcome.status is OutcomeStatus.OK


@pytest.mark.parametrize(
    "model",
    [
        "bloom",
        pytest.param("gemma-2-2b", marks=needs(transformers="5.22")),  # 5.16 has sdpa without its softcapping
    ],
)
def test_an_attention_that_a_model_lacks_is_refused(
    model: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    if model == "bloom":
        model = a_model(tmp_path / "model", model_type="bloom", architectures=["BloomForCausalLM"])
    message, hint = refusal(virtual_gpu, model, attention="sdpa")
    assert message.startswith(f"{model} has no sdpa attention in transformers ")
    assert "--attention eager" in hint


def test_adapters_for_modules_that_a_model_lacks_are_refused(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    method = {"kind": "lora", "targets": "c_attn,nothing"}
    model = a_model(tmp_path / "model")
    message, hint = refusal(virtual_gpu, model, method=method)
    assert message == f"targets: {model} has no module 'c_attn'"
    assert "are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj" in hint
    other = a_model(tmp_path / "other", model_type="olmo")  # of which only the model itself tells
    message, hint = refusal(virtual_gpu, other, method=method)
    assert message.startswith(f"no adapter fits {other}: Target modules {{")
    assert hint.endswith("are down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj")
    message, _ = refusal(virtual_gpu, other, method={"kind": "lora", "targets": "q_proj,nothing"})
    assert message == f"targets: {other} has no module 'nothing'"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # transformers 5.0 does not check its configurations, 5.8 does. Unchecked, such a width ends the first
        # forward pass.
        (
            {"hidden_size": "wide"},
            "Field 'hidden_size' expected int" if since(transformers="5.8") else "'str' and 'int'",
        ),
        pytest.param(
            {"hidden_size": 63},
            "hidden size (63) is not a multiple of the number of attention heads",
            marks=needs(transformers="5.8"),
        ),
        ({"model_type": "nothing"}, "model type `nothing`"),
        ({"model_type": "t5"}, "has no class for causal-lm in transformers"),
        ({"model_type": "vit"}, "is a vit model, which has no class for causal-lm"),
    ],
)
def test_a_config_of_no_model_is_refused(
    changes: dict[str, object], said: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    message, _ = refusal(virtual_gpu, a_model(tmp_path / "model", **changes))
    assert said in message


# ---- checkpoints that are not whole ----


@pytest.fixture(scope="module")
def checkpoints(virtual_gpu: WarmMachines, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole` in one file, `sharded` in three."""
    place = tmp_path_factory.mktemp("checkpoints")
    config = a_model(place / "config")
    for name, shard_size in (("whole", "5GB"), ("sharded", "3MB")):
        virtual_gpu("rtx-4090", _save, config, str(place / name), shard_size)
    return place


def _save(config_directory: str, to: str, shard_size: str) -> None:
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(config_directory)
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(to, max_shard_size=shard_size)


def _truncate(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])


def _spoil_the_header(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def _leave_the_pointer(directory: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7146000\n"
    (directory / "model.safetensors").write_text(pointer)


def _lose_the_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def _lose_a_shard(directory: Path) -> None:
    (directory / "model-00002-of-00003.safetensors").unlink()


def _cut_the_index(directory: Path) -> None:
    (directory / "model.safetensors.index.json").write_text("{")


def _want_another_layer(directory: Path) -> None:
    a_model(directory, num_hidden_layers=3)


def _want_a_wider_model(directory: Path) -> None:
    a_model(directory, hidden_size=512)


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_truncate, f"Error while deserializing header: {DAMAGED[0]}"),
        (_spoil_the_header, f"Error while deserializing header: {DAMAGED[1]}"),
        (_leave_the_pointer, "Error while deserializing header"),
        (_lose_the_weights, "no file named model.safetensors"),
        (_want_another_layer, "lacks 9 tensors, such as model.layers.2."),
        (_want_a_wider_model, "are of other shapes than its config gives"),
        (_lose_a_shard, "No such file or directory"),
        (_cut_the_index, "Expecting property name enclosed in double quotes"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    method: str, harm: Callable[[Path], None], said: str, checkpoints: Path, virtual_gpu: WarmMachines
) -> None:
    directory = checkpoints / f"{harm.__name__}-{method}"
    shutil.copytree(
        checkpoints / ("sharded" if harm in (_lose_a_shard, _cut_the_index) else "whole"), directory
    )
    harm(directory)
    message, hint = refusal(virtual_gpu, str(directory), weights="pretrained", method=method)
    assert str(directory) in message
    assert said in message
    assert hint == "it takes a complete safetensors checkpoint of such a model"
