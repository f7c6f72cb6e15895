"""Training scripts as people write them run to their end on a virtual card; no value is guessed unsaid."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.follow.result import CommandResult, CommandStatus
from profiler.jobs.models import list_presets
from profiler.units import MIB
from profiler.virtual.routing import Routing
from tests.builders import ROOT
from tests.versions import needs
from tests.virtual.following import SCRIPTS, follow, follow_script, follow_text, needs_the_library, only
from tests.virtual.jobs import a_job, a_model, run_warm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

pytestmark = [needs_the_library, pytest.mark.slow]

PUBLISHED_PEAK_BYTES = 72_434_837_504
"""Mistral-7B, full fine-tuning, batch 4 x 4096 on an A100-80GB: fms-acceleration's a100_80gb.csv, row 8."""

needs_trl = pytest.mark.skipif(
    not (importlib.util.find_spec("trl") and importlib.util.find_spec("datasets")),
    reason="trl and datasets are not installed",
)
needs_a_compiler = pytest.mark.skipif(
    not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")),
    reason="Triton builds its launcher with a C compiler: set CC, or install gcc or clang",
)


def check(result: CommandResult, *, num_steps: int) -> None:
    """It ran, and nothing that decides a size or a branch was unknown."""
    report = only(result)
    assert (result.status, result.exit_code) == (CommandStatus.OK, 0)
    assert report.num_steps == num_steps
    assert report.reads is not None
    assert report.reads.decision_sites == ()
    assert result.unknown_functions == ()


def test_a_full_fine_tuning_of_mistral_7b_peaks_as_on_the_real_card() -> None:
    script = ROOT / "configs" / "published" / "scripts" / "mistral_7b.py"
    result = follow(sys.executable, str(script), "--steps", "2", gpu="a100-80gb")
    check(result, num_steps=2)
    assert abs((only(result).allocated_peak_bytes or 0) / PUBLISHED_PEAK_BYTES - 1) < 1e-4
    mark = only(result).peak_mark
    assert mark is not None
    assert mark.part == "step"


def test_a_mask_of_ones_peaks_at_the_same_bytes_as_no_mask(capfd: pytest.CaptureFixture[str]) -> None:
    peaks, kernels = {}, {}
    for mask in ("none", "unused", "ones", "padded"):
        result = follow_script("masked", mask)
        check(result, num_steps=0)
        peaks[mask] = only(result).allocated_peak_bytes or 0
        kernels[mask] = capfd.readouterr().out.split()
    assert peaks["ones"] == peaks["unused"]  # the same batch, its mask passed or not
    assert peaks["ones"] == peaks["none"] + 2 * 2048 * 8  # a batch without one
    assert peaks["padded"] >= peaks["ones"] + 2 * 2048 * 2048
    assert (
        kernels["ones"]
        == kernels["unused"]
        == kernels["none"]
        == [
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_backward",
        ]
    )
    assert kernels["padded"] == [
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_efficient_attention_backward",
    ]


@pytest.mark.parametrize("mask", ["none", "full"])
def test_a_job_of_ours_and_the_same_job_as_a_script_agree_to_the_byte(
    mask: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    from profiler.jobs.choices import Task
    from profiler.workload.checkpoint import write_sparse_checkpoint

    model = a_model(tmp_path / "model")
    record = run_warm(virtual_gpu, a_job(model=model, attention_mask=mask))
    assert record.peak is not None
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    write_sparse_checkpoint(config, checkpoint, task=Task.CAUSAL_LM, dtype=torch.bfloat16)
    report = only(follow_script("plain_loop", str(checkpoint), mask))
    assert report.allocated_peak_bytes == record.peak.allocated_bytes
    assert report.reserved_peak_bytes == record.peak.reserved_bytes


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_bnb_8bit", "paged_adamw_8bit"])
def test_the_trainer_trains_evaluates_and_saves(optimizer: str, tmp_path: Path) -> None:
    result = follow_script("trainer", str(tmp_path), optimizer)
    check(result, num_steps=3)
    assert (tmp_path / "checkpoint-2" / "model.safetensors").is_file()
    assert (result.managed_bytes > MIB) == optimizer.startswith("paged")


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "int8"])
def test_adapters_train(method: str) -> None:
    check(follow_script("adapters", method), num_steps=2)


def test_accelerate_trains_in_fp16_with_a_scaler_and_pinned_batches_of_workers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    check(follow_script("accelerated"), num_steps=4)
    assert capfd.readouterr().out.splitlines()[-1] == "skipped: False"


@needs_trl
@pytest.mark.parametrize("kind", ["padding", "packing", pytest.param("completion", marks=needs(trl="0.17"))])
def test_trl_trains_on_padded_packed_and_completion_rows(kind: str, tmp_path: Path) -> None:
    check(follow_script("supervised", str(tmp_path), kind), num_steps=2)


@needs_a_compiler
def test_a_compiled_model_trains(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    result = follow_script("compiled")
    check(result, num_steps=2)
    assert capfd.readouterr().out.splitlines()[-1] == "compiled frames: 1"
    assert [m.part for m in only(result).marks[:5]] == ["setup", "forward", "backward", "clip", "step"]


@needs(torch="2.14")  # 2.4 does not look at what it is told to leave as it is
def test_what_was_to_be_compiled_and_was_not_is_told(tmp_path: Path) -> None:
    text = """
        import torch
        torch._dynamo.config.disable = True
        model = torch.compile(torch.nn.Linear(4, 4).cuda(), backend="eager")
        model(torch.randn(2, 4, device="cuda"))
    """
    (note,) = follow_text(tmp_path, text).notes
    assert note.startswith("torch.compile compiled nothing in process")
    assert note.endswith("its figures are of eager execution")
    assert follow_text(tmp_path, text.replace("disable = True", "disable = False")).notes == ()


def test_generation_goes_on_to_its_limit(capfd: pytest.CaptureFixture[str]) -> None:
    result = follow_script("generating")
    check(result, num_steps=0)
    assert capfd.readouterr().out.splitlines()[-1] == "(2, 140)"
    reads = only(result).reads
    assert reads is not None
    assert reads.assumed == 12  # one choice of a next token for each


@pytest.mark.parametrize(
    ("family", "implementation"),
    [
        ("mixtral", "eager"),
        pytest.param("qwen3_moe", "eager", marks=needs(transformers="4.51")),
        pytest.param("qwen3_moe", "grouped_mm", marks=needs(transformers="5")),
    ],
)
def test_a_mixture_of_experts_trains_with_an_assumed_routing(family: str, implementation: str) -> None:
    result = follow_script("experts", family, implementation)
    check(result, num_steps=2)
    reads = only(result).reads
    assert reads is not None
    assert reads.assumed == 4  # two layers, two steps
    assert result.routing == "even"


def test_the_routing_that_is_asked_for_decides_what_experts_take() -> None:
    even, worst = (follow_script("experts", "mixtral", "eager", routing=how) for how in Routing)
    assert (even.routing, worst.routing) == (Routing.EVEN, Routing.WORST)
    # The peak of all can be the optimizer's, which keeps states of every expert.
    even_bytes, worst_bytes = (
        next(mark.allocated_peak_bytes for mark in only(result).marks if mark.part == "backward")
        for result in (even, worst)
    )
    assert even_bytes != worst_bytes


@needs(transformers="5")
def test_a_model_with_convolutions_trains() -> None:
    (preset,) = [preset for preset in list_presets() if preset.id == "qwen3.5-0.8b"]
    check(follow_script("convolutions", str(preset.config_path)), num_steps=2)


def test_torchrun_with_one_process_runs() -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
    check(follow(*launcher, str(SCRIPTS / "adapters.py"), "lora"), num_steps=2)
