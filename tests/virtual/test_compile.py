"""torch.compile generates, builds and launches Triton kernels for a card that is not there."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.virtual.values import TrueValues
from tests.virtual.harness import WarmMachines, live_state

if TYPE_CHECKING:
    from pathlib import Path

needs_a_compiler = pytest.mark.skipif(
    not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")),
    reason="Triton builds its launcher with a C compiler: set CC, or install gcc or clang",
)


@needs_a_compiler
@pytest.mark.parametrize(("gpu_id", "keeps_values"), [("rtx-4090", True), ("h100-80gb", False)])
def test_a_small_model_compiles_and_trains(
    virtual_gpu: WarmMachines, tmp_path: Path, gpu_id: str, *, keeps_values: bool
) -> None:
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        "TRITON_CACHE_DIR": str(tmp_path / "triton"),
    }
    seen = virtual_gpu(gpu_id, _compile, keeps_values, variables=caches)
    assert seen["compiled_frames"] == 1
    assert seen["gradients"] == [[512, 256], [512], [128, 512], [128]]
    assert seen["launches"] > 0
    assert seen["unknown_functions"] == []
    assert list((tmp_path / "triton").rglob("*.cubin"))


def test_compiled_code_is_found_again_while_values_are_followed(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _call_again) == {"total": 1, "ok": 1}


def _call_again() -> dict[str, int]:
    from torch._dynamo.utils import counters

    model = torch.compile(torch.nn.Linear(4, 4).cuda(), backend="eager")
    with TrueValues():
        for _ in range(12):  # torch gives up after 8
            model(torch.randn(2, 4, device="cuda")).sum().backward()
    return dict(counters["frames"])


def _compile(keeps_values: bool) -> dict[str, Any]:
    from contextlib import nullcontext

    import torch._inductor.config as inductor
    from torch._dynamo.utils import counters

    inductor.compile_threads = 1  # in this process, not in workers that outlive it
    model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 128)).cuda()
    compiled = torch.compile(model)
    with TrueValues() if keeps_values else nullcontext():
        for _ in range(2):
            compiled(torch.randn(64, 256, device="cuda")).square().sum().backward()
    state = live_state()
    return {
        "compiled_frames": counters["stats"]["unique_graphs"],
        "gradients": [None if p.grad is None else list(p.grad.shape) for p in model.parameters()],
        "launches": state.devices[0].num_launches,
        "unknown_functions": [state.unknown[i].value.decode() for i in range(state.num_unknown)],
    }
