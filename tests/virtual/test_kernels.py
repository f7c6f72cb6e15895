"""Triton's kernels write past torch's operators: what they write is forgotten, what they read stays known."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.virtual.values import TrueValues
from tests.virtual.test_compile import needs_a_compiler

if TYPE_CHECKING:
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

KERNEL = """
import triton
import triton.language as tl

@triton.jit
def count(source, counts, size, is_source_cleared: tl.constexpr = False, BLOCK: tl.constexpr = 4):
    places = tl.arange(0, BLOCK)
    found = tl.load(source + places, mask=places < size)
    tl.atomic_add(counts + found, 1, mask=places < size)
    if is_source_cleared:
        tl.store(source + places, found * 0, mask=places < size)
"""


@pytest.fixture
def caches(tmp_path: Path) -> dict[str, str]:
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        "TRITON_CACHE_DIR": str(tmp_path / "triton"),
    }


@needs_a_compiler
def test_what_a_scripts_kernel_writes_is_forgotten(
    virtual_gpu: WarmMachines, tmp_path: Path, caches: dict[str, str]
) -> None:
    (tmp_path / "counting.py").write_text(KERNEL)
    seen = virtual_gpu("rtx-4090", _count, str(tmp_path), variables=caches)
    assert seen == {"known": [[1, 0, 1, 3], 0], "first": 1, "second": 3}


def _count(directory: str) -> dict[str, Any]:
    sys.path.insert(0, directory)
    with TrueValues() as values:
        count = importlib.import_module("counting").count
        source, counts = torch.tensor([1, 0, 1, 3], device="cuda"), torch.zeros(4, dtype=torch.int64).cuda()
        count[(1,)](source, counts, 4, num_warps=1)
        known = [source.tolist(), values.unknown_reads.decisions.total()]
        counts.tolist()
        first = values.unknown_reads.decisions.total()
        count[(1,)](source, counts, 4, is_source_cleared=True, num_warps=1)
        source.tolist()
        counts.tolist()
        return {"known": known, "first": first, "second": values.unknown_reads.decisions.total()}


@needs_a_compiler
def test_what_compiled_code_writes_in_place_is_forgotten(
    virtual_gpu: WarmMachines, caches: dict[str, str]
) -> None:
    assert virtual_gpu("rtx-4090", _compile, variables=caches) == [[1, 2, 3], 0, [0, 0, 0], 1]


def _compile() -> list[Any]:
    import torch._inductor.config as inductor

    inductor.compile_threads = 1  # in this process, not in workers that outlive it

    @torch.compile
    def move(positions: torch.Tensor, shifts: torch.Tensor) -> None:
        positions.add_(shifts)

    with TrueValues() as values:
        positions, shifts = (torch.tensor([1, 2, 3], device="cuda") for _ in range(2))
        move(positions, shifts)
        told = [shifts.tolist(), values.unknown_reads.total]
        return [*told, positions.tolist(), values.unknown_reads.decisions.total()]


def test_kernels_are_run_as_ever_afterwards(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _leave) == [True, True]


def _leave() -> list[Any]:
    from triton.runtime.jit import JITFunction

    before, finders = JITFunction.run, list(sys.meta_path)
    with TrueValues():
        is_watched = JITFunction.run is not before
    return [is_watched, JITFunction.run is before and sys.meta_path == finders]
