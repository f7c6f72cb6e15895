"""Explained runs of real torch on virtual cards: every byte has its owner, and watching changes nothing."""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from profiler.explain.explanation import Explanation
from profiler.jobs.job import JobSpec
from profiler.records.schema import OutcomeStatus, PhaseName, Record
from tests.virtual.jobs import ForkedWorker, a_job, a_model, phase, run_warm, without_times
from tests.virtual.test_commands import peakvram

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines

JOBS: dict[str, dict[str, Any]] = {
    "full": {"gradient_checkpointing": False},
    "full, checkpointing, trainer": {"loop": "trainer", "optimizer": "adamw_bnb_8bit"},
    "lora": {"method": "lora", "gradient_checkpointing": False, "attention_mask": "padded"},
    "qlora, reentrant": {"method": "qlora", "gradient_checkpointing": {"reentrant": True}},
    "int8-lora": {"method": "int8-lora"},
    "amp, expandable": {"precision": "bf16-amp", "alloc_conf": "expandable_segments:True"},
    "autocast, eager, dora": {
        "method": {"kind": "lora", "use_dora": True},
        "precision": "bf16-autocast",
        "attention": "eager",
    },
    "evaluated, saved": {"method": "lora", "eval_batches": 9, "eval_batch_size": 6, "save": True},
    "inference": {"method": {"kind": "inference", "new_tokens": 8}},
}


@dataclass(frozen=True)
class Explained:
    """An explained run."""

    record: Record
    explanation: Explanation
    window: list[tuple[int, int]]  # each instant of the whole run: its event and its total

    def sizes(self, component: str) -> dict[str, int]:
        """The parts of a component in bytes."""
        found = [one for one in self.explanation.components if one.name == component]
        return {group.name: group.size_bytes for one in found for group in one.groups}


def explain(virtual_gpu: WarmMachines, spec: JobSpec, snapshot: Path | None = None) -> Explained:
    arguments = (spec.model_dump_json(), str(snapshot) if snapshot else "")
    told = virtual_gpu("a100-80gb", _explain, *arguments, count=0)
    return Explained(
        record=Record.model_validate(told["record"]),
        explanation=Explanation.model_validate(told["explanation"]),
        window=told["window"],
    )


def _explain(spec: str, snapshot: str) -> dict[str, Any]:
    """In the child."""
    from profiler.execute import local
    from profiler.explain.run import run_explained

    parts = SimpleNamespace(Popen=ForkedWorker, DEVNULL=subprocess.DEVNULL)
    with mock.patch.object(local, "subprocess", parts):
        path = Path(snapshot) if snapshot else None
        run = run_explained(JobSpec.model_validate_json(spec), snapshot_path=path)
    assert run.explanation is not None
    return {
        "record": run.record.model_dump(mode="json"),
        "explanation": run.explanation.model_dump(mode="json"),
        "window": [(one.event, one.total_bytes) for one in run.timelines[0].instants],
    }


def total(explanation: Explanation) -> int:
    return sum(
        line.size_bytes
        for component in explanation.components
        for group in component.groups
        for line in group.lines
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return a_model(tmp_path_factory.mktemp("explain") / "model")


@pytest.mark.parametrize("name", JOBS)
def test_what_is_attributed_is_the_allocators_peak_to_the_byte(
    virtual_gpu: WarmMachines, model: str, name: str
) -> None:
    found = explain(virtual_gpu, a_job(model=model, **JOBS[name]))
    assert found.record.outcome.status is OutcomeStatus.OK
    assert found.record.peak is not None
    peak_bytes = found.record.peak.allocated_bytes
    assert found.explanation.instant.allocated_bytes == peak_bytes
    assert total(found.explanation) == peak_bytes
    assert max(size for _, size in found.window) == peak_bytes
    assert found.explanation.notes == ()


@pytest.mark.parametrize("name", ["full", "qlora, reentrant", "autocast, eager, dora", "inference"])
def test_watching_a_job_changes_nothing_of_what_it_takes(
    virtual_gpu: WarmMachines, model: str, name: str
) -> None:
    spec = a_job(model=model, **JOBS[name])
    assert without_times(explain(virtual_gpu, spec).record) == without_times(run_warm(virtual_gpu, spec))


def test_what_tensors_hold_is_what_the_record_counted(virtual_gpu: WarmMachines, model: str) -> None:
    found = explain(virtual_gpu, a_job(model=model, method="qlora"))
    at = found.explanation.instant
    assert (at.phase, at.step) == (PhaseName.BACKWARD, 1)
    counted = phase(found.record, PhaseName.FORWARD, 1).components
    assert counted is not None
    for component, size_bytes in (
        ("weights", counted.weights_bytes),
        ("quantization state", counted.quantization_state_bytes),
        ("adapters", counted.adapter_bytes),
        ("optimizer", counted.optimizer_bytes),
        ("batch", counted.batch_bytes),
    ):
        assert sum(found.sizes(component).values()) == size_bytes > 0
    assert set(found.sizes("optimizer")) == {"exp_avg", "exp_avg_sq"}
    assert "layers.*.mlp.up_proj.lora_A.weight" in found.sizes("adapters")


def test_saved_activations_have_the_module_that_saved_them(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    num_tokens, inner_size, num_layers = 2 * 1024, 4096, 2  # blocks of 16 MiB: each fills its segment
    model = a_model(tmp_path / "model", intermediate_size=inner_size)
    found = explain(virtual_gpu, a_job(model=model, gradient_checkpointing=False, seq_len=1024))
    activations = found.sizes("saved activations")
    for module in ("gate_proj", "up_proj", "act_fn"):
        assert activations[f"layers.*.mlp.{module}"] == num_tokens * inner_size * 2 * num_layers
    lines = [
        group.lines[0]
        for component in found.explanation.components
        for group in component.groups
        if group.name == "layers.*.mlp.up_proj"
    ]
    assert lines[0].line.startswith("transformers/models/llama/modeling_llama.py:")
    assert lines[0].caller.startswith("profiler/workload/job.py:")


def test_with_checkpointing_only_the_blocks_own_inputs_are_saved(
    virtual_gpu: WarmMachines, model: str
) -> None:
    found = explain(virtual_gpu, a_job(model=model, seq_len=1024))
    assert found.explanation.instant.module == "output layer and loss"
    activations = found.sizes("saved activations")
    assert not any(".mlp" in name for name in activations)
    hidden_bytes = 2 * 1024 * 256 * 2
    assert activations["embed_tokens"] == hidden_bytes  # the first block's
    assert activations["layers.*"] == hidden_bytes  # the second one's; nobody saves what that gives


def test_the_backward_pass_of_a_block_is_told_from_that_of_the_loss(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path / "model", vocab_size=256, intermediate_size=8192)
    found = explain(virtual_gpu, a_job(model=model, method="qlora", seq_len=1024))
    at = found.explanation.instant
    assert at.phase is PhaseName.BACKWARD
    assert at.module.startswith("layers.")
    recomputed = [name for name in found.sizes("saved activations") if name.endswith("(recomputed)")]
    assert any("mlp" in name for name in recomputed)
    assert found.sizes("temporaries")


def test_the_moment_of_failure_is_explained(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path / "model", vocab_size=65536)
    spec = a_job(model=model, seq_len=2048, batch_size=4, gpu_memory_bytes="3GiB", method="lora")
    found = explain(virtual_gpu, spec)
    assert found.record.outcome.status is OutcomeStatus.OOM
    at = found.explanation.instant
    assert at.is_failure
    assert (at.phase, at.step) == (found.record.outcome.phase, found.record.outcome.step)
    assert at.requested_bytes == found.record.outcome.requested_bytes
    assert at.allocated_bytes == found.record.phases[-1].allocated_end_bytes == total(found.explanation)
    assert at.module == "output layer and loss"
    assert found.sizes("logits and loss")


def test_the_snapshot_is_torchs_own(virtual_gpu: WarmMachines, model: str, tmp_path: Path) -> None:
    path = tmp_path / "peak.pickle"
    explain(virtual_gpu, a_job(model=model, steps=1), path)
    assert path.stat().st_size > 10_000
    assert path.read_bytes()[:1] == b"\x80"  # what every pickle since protocol 2 begins with


def test_block_sizes_are_the_allocators_own(virtual_gpu: WarmMachines) -> None:
    for alloc_conf in ("", "max_split_size_mb:32"):
        variables = {"PYTORCH_ALLOC_CONF": alloc_conf} if alloc_conf else None
        assert virtual_gpu("a100-80gb", _sizes_differ, alloc_conf, variables=variables) == []


def _sizes_differ(alloc_conf: str) -> list[tuple[int, int, int]]:
    """In the child: blocks of all sizes come and go; those whose size was told wrong."""
    import torch

    from profiler.measure.allocator import live_blocks
    from profiler.measure.block_sizes import BlockSizes
    from profiler.measure.history import Ring

    torch.cuda.init()
    torch.cuda.mem_get_info()
    ring = Ring(1_000_000)
    ring.begin()
    random.seed(1)
    kept: list[torch.Tensor] = []
    for _ in range(3000):
        if kept and random.random() < 0.5:
            kept.pop(random.randrange(len(kept)))
        if random.random() < 0.01:
            torch.cuda.empty_cache()
        size_bytes = int(2 ** random.uniform(0, 27))
        kept.append(torch.empty(size_bytes, dtype=torch.uint8, device="cuda"))
    sizes, told = BlockSizes(alloc_conf), dict[int, int]()
    follow = {
        "segment_alloc": lambda one: sizes.segment_began(one["addr"], one["size"]),
        "segment_free": lambda one: sizes.segment_ended(one["addr"], one["size"]),
        "free_completed": lambda one: sizes.is_free(one["addr"]),
        "alloc": lambda one: told.update({one["addr"]: sizes.allocated(one["addr"], one["size"])}),
    }
    for entry in ring.read():
        follow.get(entry["action"], lambda _: None)(entry)
    live = live_blocks()
    assert len(live) > 500
    return [
        (address, block.size_bytes, told[address])
        for address, block in live.items()
        if told[address] != block.size_bytes
    ]


def test_a_workspace_in_a_block_that_was_not_worth_splitting_is_one(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _workspace_in_a_larger_block) == [9_043_968, 0]


def _workspace_in_a_larger_block() -> tuple[int, int]:
    """In the child: of a segment of 20 MiB so much is left that a workspace has it all."""
    import torch

    from profiler.measure.components import Holdings, count_components

    matrix = torch.empty(64, 64, device="cuda")
    rest_bytes = 20 * 2**20 - 9_043_968
    kept = [torch.empty(rest_bytes // 2, dtype=torch.uint8, device="cuda") for _ in range(2)]
    product = matrix @ matrix
    holdings = Holdings(batches=[{str(index): one for index, one in enumerate([matrix, product, *kept])}])
    holdings.num_threads_with_workspace = 1
    components = count_components(holdings)
    return components.workspace_bytes, components.activations_bytes + components.other_bytes


@pytest.mark.slow
def test_the_command_explains_a_job_and_tries_changes(model: str, tmp_path: Path) -> None:
    flags = [
        "--gpu",
        "rtx-4090",
        "--method",
        "lora",
        "--seq-len",
        "1024",
        "--steps",
        "2",
        "--out",
        "why",
        "--json",
    ]
    done = peakvram(tmp_path, "explain", model, *flags)
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)
    assert tree["changes"]
    saved = [change["saved_bytes"] for change in tree["changes"]]
    assert saved == sorted(saved, reverse=True)
    assert saved[0] > 0
    peak_bytes = tree["record"]["peak"]["allocated_bytes"]
    assert any(change["allocated_bytes"] < peak_bytes for change in tree["changes"])
    assert done.stderr.count("trying ") == 4
    assert (tmp_path / "why" / "explanation.html").stat().st_size < 3 << 20
    assert tree == json.loads((tmp_path / "why" / "explanation.json").read_text())
