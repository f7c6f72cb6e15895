"""Where a virtual GPU cannot work, the error says why and what to do: in processes whose torch is another."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from profiler.hardware.catalogue import Gpu, find_gpu
from profiler.hardware.discovery import choose_device
from profiler.hardware.torch_build import find_torch_build
from profiler.virtual.launch import check_possible, launch_machine
from profiler.virtual.state import open_state
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ASK = """
import json, sys
from profiler.errors import EnvironmentUnfitError
{before}
from profiler.virtual import launch
try:
    print(json.dumps({{"cuda_version": launch.check_possible()}}))
except EnvironmentUnfitError as error:
    print(json.dumps({{"message": error.message, "hint": error.hint, "exit_code": error.exit_code}}))
"""


def ask(*, torch_version: Path | None = None, before: str = "") -> dict[str, Any]:
    """What `check_possible` says in a process that finds this torch first."""
    paths = [str(ROOT), *([str(torch_version)] if torch_version else [])]
    insert = f"sys.path[:0] = {list(reversed(paths))!r}\n"
    script = ASK.format(before=insert + before)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def a_torch(directory: Path, version: str, cuda: str | None) -> Path:
    package = directory / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('nobody should import this')\n")
    (package / "version.py").write_text(f"__version__ = {version!r}\ncuda: str | None = {cuda!r}\n")
    return directory


def test_the_installed_torch_can_show_a_virtual_gpu() -> None:
    build = find_torch_build()
    assert build is not None
    assert ask() == {"cuda_version": check_possible()} == {"cuda_version": build.cuda_version}


@pytest.mark.parametrize(("cuda", "encoded"), [("12.1", 12010), ("12.8", 12080), ("13.0", 13000)])
def test_a_torch_for_cuda_12_or_13_will_do(tmp_path: Path, cuda: str, encoded: int) -> None:
    assert ask(torch_version=a_torch(tmp_path, "2.9.0", cuda)) == {"cuda_version": encoded}


def test_a_torch_without_cuda_is_told_apart(tmp_path: Path) -> None:
    told = ask(torch_version=a_torch(tmp_path, "2.14.1+cpu", None))
    assert told["message"] == "the virtual GPU needs the CUDA build of torch; torch 2.14.1+cpu has no CUDA"
    assert "pip install torch" in told["hint"]
    assert told["exit_code"] == 3


@pytest.mark.parametrize("cuda", ["11.8", "14.0"])
def test_a_torch_for_a_cuda_nobody_has_seen_is_refused(tmp_path: Path, cuda: str) -> None:
    told = ask(torch_version=a_torch(tmp_path, "2.3.0", cuda))
    assert f"torch 2.3.0 is for CUDA {cuda}" in told["message"]
    assert told["hint"] == "install a torch for CUDA 12 or 13"
    assert told["exit_code"] == 3


def test_no_torch_at_all_is_said() -> None:
    told = ask(before="sys.modules['torch'] = None\nimport importlib.util\n" + HIDE_TORCH)
    assert told["message"] == "torch is not installed"
    assert told["exit_code"] == 3


# As where it is not installed: no finder knows it.
HIDE_TORCH = """
del sys.modules['torch']
class Hides:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, *rest): return None if name == 'torch' else self.finder.find_spec(name, *rest)
sys.meta_path[:] = [Hides(finder) for finder in sys.meta_path]
"""


def test_a_library_that_was_not_built_is_said_with_the_way_to_build_it() -> None:
    told = ask(before="import profiler.virtual.state as state\nstate.LIBRARY_NAME = 'not-there.so'")
    assert told["message"] == "the virtual GPU's library has not been built"
    assert "python -m profiler.virtual.build" in told["hint"]
    assert told["exit_code"] == 3


@pytest.mark.parametrize(("platform", "name"), [("darwin", "Darwin"), ("win32", "Windows")])
def test_another_system_is_named(platform: str, name: str) -> None:
    told = ask(before=f"import platform\nplatform.system = lambda: {name!r}\nsys.platform = {platform!r}")
    assert told["message"] == f"the virtual GPU needs Linux; this is {name}"
    assert "it needs no GPU" in told["hint"]
    assert told["exit_code"] == 3


def test_a_launched_machine_shows_the_cards_of_the_catalogue(tmp_path: Path) -> None:
    gpu = find_gpu("rtx-4090")
    state = open_state(launch_machine(tmp_path, gpu, count=2).state_path)
    assert state.num_devices == 2
    assert state.cuda_version == state.driver_version == check_possible()
    for device in state.devices[:2]:
        assert device.name.decode() == gpu.name
        assert (device.total_bytes, device.context_bytes) == (gpu.total_bytes, gpu.context_bytes)
    assert state.devices[0].uuid != state.devices[1].uuid


def test_a_launched_machine_has_the_capacity_that_was_asked_for(tmp_path: Path) -> None:
    gpu = choose_device("rtx-4090", gpu_memory_bytes=2 << 40).gpu
    assert isinstance(gpu, Gpu)
    device = open_state(launch_machine(tmp_path, gpu).state_path).devices[0]
    assert device.total_bytes == 2 << 40
    assert device.nvml_total_bytes == gpu.nvml_total_bytes >= 2 << 40


def test_the_environment_hides_real_gpus_and_keeps_what_was_preloaded(tmp_path: Path) -> None:
    machine = launch_machine(tmp_path, find_gpu("l4"))
    base = {"LD_PRELOAD": "/a.so", "LD_LIBRARY_PATH": "/b", "CUDA_VISIBLE_DEVICES": "3", "HOME": "/h"}
    environment = machine.environment(base)
    assert environment["LD_PRELOAD"].split() == [str(machine.library), "/a.so"]
    assert environment["LD_LIBRARY_PATH"].split(":") == [str(tmp_path), "/b"]
    assert environment["HOME"] == "/h"
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert base["CUDA_VISIBLE_DEVICES"] == "3"
