"""`peakvram exec` where few are: odd threads, a full disk, other allocators, a run within a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from profiler.follow.result import CommandStatus
from profiler.units import MIB
from tests.builders import ROOT
from tests.virtual.following import follow_text, needs_the_library, only

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

pytestmark = needs_the_library


def test_values_are_true_in_a_thread_that_python_does_not_know(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = """
        import _thread, torch
        counts, done = torch.tensor([5, 3], device="cuda"), _thread.allocate_lock()

        def add(n, *, to):
            to.add_(n)
            done.release()

        done.acquire()
        _thread.start_new_thread(add, (2,), {"to": counts})
        done.acquire()
        print(counts.tolist())
    """
    assert follow_text(tmp_path, text).exit_code == 0
    assert capfd.readouterr().out == "[7, 5]\n"


def test_a_full_disk_is_told_and_the_script_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = """
        import os, pathlib
        reports = pathlib.Path(os.environ["PEAKVRAM_FOLLOW"]) / "reports"
        import torch
        torch.ones(4, device="cuda")
        reports.rename(reports.with_name("away"))  # nothing can be written there any more
        torch.nn.Linear(4, 4, device="cuda")(torch.ones(4, device="cuda")).sum().backward()
        reports.with_name("away").rename(reports)
        print("done")
    """
    result = follow_text(tmp_path, text)
    out, said = capfd.readouterr()
    assert (result.status, out) == (CommandStatus.OK, "done\n")
    assert said.startswith("peakvram: cannot write what this process takes: [Errno 2]")
    assert said.count("cannot write") == 1


def test_an_allocator_of_the_scripts_own_is_told(tmp_path: Path) -> None:
    text = """
        import torch
        own = torch.cuda.memory.CUDAPluggableAllocator("libc.so.6", "malloc", "free")
        torch.cuda.memory.change_current_allocator(own)
        torch.nn.Linear(4, 4, device="cuda")(torch.ones(4, device="cuda")).sum().backward()
    """
    result = follow_text(tmp_path, text)
    assert (result.status, only(result).allocated_peak_bytes) == (CommandStatus.OK, 0)
    assert [note.partition(" has ")[2] for note in result.notes] == [
        "an allocator of its own: what that allocates is not known"
    ]


def test_an_allocator_that_a_virtual_card_lacks_is_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "backend:cudaMallocAsync")
    result = follow_text(tmp_path, "import torch; torch.ones(4, device='cuda')")
    assert (result.status, result.unknown_functions) == (
        CommandStatus.ERROR,
        ("cudaDeviceGetDefaultMemPool",),
    )


def test_a_run_within_a_run_is_followed_by_the_inner_one(tmp_path: Path) -> None:
    text = """
        import subprocess, sys
        script = "import torch; torch.empty(5 << 20, dtype=torch.uint8, device='cuda')"
        options = ["--gpu", "a100-80gb", "--out", sys.argv[1]]
        command = ["-m", "profiler", "exec", *options, "--", sys.executable, "-c", script]
        subprocess.run([sys.executable, *command], cwd=sys.argv[2], check=True)
    """
    inner = tmp_path / "inner.json"
    outer = follow_text(tmp_path, text, str(inner), str(ROOT))
    assert (outer.status, outer.exit_code, outer.notes) == (CommandStatus.UNUSED, 0, ())
    told = json.loads(inner.read_text())
    assert (told["status"], told["device"]["id"]) == ("ok", "a100-80gb")
    assert told["processes"][0]["reserved_peak_bytes"] == 20 * MIB


def test_threads_that_train_at_once_tell_side_by_side(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = """
        import threading, torch

        def train():
            model = torch.nn.Linear(8, 8, device="cuda")
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(300):
                model(torch.ones(2, 8, device="cuda")).sum().backward()
                optimizer.step()

        threads = [threading.Thread(target=train) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    assert follow_text(tmp_path, text).status is CommandStatus.OK
    assert capfd.readouterr().err == ""
