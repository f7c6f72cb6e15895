"""`torch.distributed` with one process runs on a virtual card: NCCL's part of it, and what rests on that."""

from __future__ import annotations

import ctypes
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.follow.result import CommandResult, CommandStatus
from tests.virtual.following import SCRIPTS, follow, follow_text, needs_the_library, only
from tests.virtual.harness import live_state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

pytestmark = [needs_the_library, pytest.mark.slow]

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1")
SUCCESS, INVALID_USAGE = 0, 5
"""`ncclSuccess` and `ncclInvalidUsage` of nccl.h."""


def distributed(kind: str) -> CommandResult:
    """Runs a part of `scripts/distributed.py` to its end, with nothing guessed."""
    return check(follow(*TORCHRUN, str(SCRIPTS / "distributed.py"), kind))


def check(result: CommandResult) -> CommandResult:
    report = only(result)
    assert (result.status, result.exit_code) == (CommandStatus.OK, 0)
    assert report.reads is not None
    assert report.reads.decision_sites == ()
    assert result.unknown_functions == ()
    return result


def test_collectives_of_one_process_pass_on_what_they_are_given(capfd: pytest.CaptureFixture[str]) -> None:
    distributed("collectives")
    assert capfd.readouterr().out.splitlines()[-1] == "[3, 5] [3, 5] [3, 5] [{'rows': 7}] [['any', 'size']]"


def test_the_buckets_of_ddp_are_in_its_figures(capfd: pytest.CaptureFixture[str]) -> None:
    plain, ddp = only(distributed("plain")), only(distributed("ddp"))
    gradient_bytes = int(capfd.readouterr().out.splitlines()[-1].rpartition(" ")[2])
    assert (plain.num_steps, ddp.num_steps) == (2, 2)
    assert [report.marks[0].part for report in (plain, ddp)] == ["setup", "setup"]
    # The buckets are made with the wrapper, one place for each gradient.
    assert ddp.marks[0].allocated_bytes == plain.marks[0].allocated_bytes + gradient_bytes
    assert plain.allocated_peak_bytes is not None
    assert ddp.allocated_peak_bytes is not None
    assert ddp.allocated_peak_bytes >= plain.allocated_peak_bytes + gradient_bytes


def test_fully_sharded_over_one_card_trains() -> None:
    report = only(distributed("fsdp2"))
    assert report.num_steps == 2
    assert [mark.part for mark in report.marks[:5]] == ["setup", "forward", "backward", "clip", "step"]


def test_the_trainer_trains_evaluates_and_saves_under_torchrun(tmp_path: Path) -> None:
    result = check(follow(*TORCHRUN, str(SCRIPTS / "trainer.py"), str(tmp_path)))
    assert only(result).num_steps == 3
    assert (tmp_path / "checkpoint-2" / "model.safetensors").is_file()


def test_accelerate_launches_a_script_with_one_process() -> None:
    assert only(check(follow(*ACCELERATE, str(SCRIPTS / "accelerated.py")))).num_steps == 4


class UniqueId(ctypes.Structure):
    """`ncclUniqueId`: passed by value."""

    _fields_ = (("internal", ctypes.c_char * 128),)


def test_a_communicator_of_several_ranks_is_refused_by_name(virtual_gpu: WarmMachines) -> None:
    named = "ncclCommInitRank of several ranks"
    assert virtual_gpu("rtx-4090", _join, 2) == [
        INVALID_USAGE,
        False,
        f"the virtual GPU does not implement {named}",
        [named],
    ]
    assert virtual_gpu("rtx-4090", _join, 1) == [SUCCESS, True, "", []]


def _join(num_ranks: int) -> list[Any]:
    library = ctypes.CDLL(None)
    library.ncclGetLastError.restype = ctypes.c_char_p
    library.ncclCommInitRank.argtypes = (ctypes.c_void_p, ctypes.c_int, UniqueId, ctypes.c_int)
    communicator = ctypes.c_void_p()
    code = library.ncclCommInitRank(ctypes.byref(communicator), num_ranks, UniqueId(), 0)
    told = library.ncclGetLastError(communicator).decode()
    state = live_state()
    unknown = [state.unknown[i].value.decode() for i in range(state.num_unknown)]
    return [code, communicator.value is not None, told, unknown]


def test_nccl_says_the_release_that_is_installed(virtual_gpu: WarmMachines) -> None:
    assert torch.version.cuda is not None
    installed = version(f"nvidia-nccl-cu{torch.version.cuda.split('.')[0]}")
    assert ".".join(map(str, virtual_gpu("rtx-4090", _release))) == installed


def _release() -> list[int]:
    return list(torch.cuda.nccl.version())


def test_a_library_with_a_cuda_runtime_of_its_own_fails_by_name(tmp_path: Path) -> None:
    """The real cuSOLVER is such a one, where it is asked past the stand-in."""
    text = """
        import ctypes, importlib.util, os, pathlib, torch
        torch.cuda.init()
        (root,) = importlib.util.find_spec("nvidia").submodule_search_locations
        (path,) = pathlib.Path(root).glob("*/lib/libcusolver.so.*")
        library = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
        raise SystemExit(library.cusolverDnCreate(ctypes.byref(ctypes.c_void_p())))
    """
    result = follow_text(tmp_path, text)
    assert (result.status, result.unknown_functions) == (CommandStatus.ERROR, ("cuGetExportTable",))
