"""`peakvram exec`: what is told of a script, however it ends, and that it runs as it would without us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from profiler.cli.app import run_command
from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.follow.processes import VARIABLE, find_processes
from profiler.follow.result import CommandStatus
from profiler.units import GIB, MIB
from tests.virtual.following import TRAINING, follow, follow_text, needs_the_library, only

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines

pytestmark = needs_the_library


def test_the_parts_of_a_training_loop_are_told_apart(tmp_path: Path) -> None:
    result = follow_text(tmp_path, TRAINING)
    report = only(result)
    assert (result.status, result.exit_code, report.num_steps) == (CommandStatus.OK, 0, 3)
    assert [(m.part, m.step) for m in report.marks[:5]] == [
        ("setup", 0),
        *(("forward", 0), ("backward", 0), ("clip", 0), ("step", 0)),
    ]
    assert report.peak_mark is not None
    assert (report.peak_mark.part, report.peak_mark.step) == ("step", 0)
    assert report.ending is not None
    assert (report.ending.kind, report.ending.error) == ("exit", None)


def test_the_peaks_are_those_the_script_reads_itself_though_it_resets_them(tmp_path: Path) -> None:
    text = """
        import torch
        block = torch.empty(300 << 20, dtype=torch.uint8, device="cuda")
        del block
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        block = torch.empty(100 << 20, dtype=torch.uint8, device="cuda")
        assert torch.cuda.max_memory_allocated() == 100 << 20
    """
    result = follow_text(tmp_path, text)
    report = only(result)
    assert result.exit_code == 0
    assert (report.allocated_peak_bytes, report.reserved_peak_bytes) == (300 * MIB, 300 * MIB)
    assert result.device.context_bytes is not None
    assert result.device_used_bytes == 300 * MIB + result.device.context_bytes


def test_output_passes_through_and_the_exit_code_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = follow_text(tmp_path, TRAINING + "    print('lost', file=sys.stderr); sys.exit(7)")
    out, err = capfd.readouterr()
    assert (result.status, result.exit_code) == (CommandStatus.ERROR, 7)
    assert (out, err) == ("step 0\nstep 1\nstep 2\n", "lost\n")


def test_an_exception_is_told_and_python_prints_it_as_ever(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = follow_text(tmp_path, TRAINING + "    raise ValueError('no such column')")
    assert (result.status, result.exit_code) == (CommandStatus.ERROR, 1)
    ending = only(result).ending
    assert ending is not None
    assert ending.error == "ValueError: no such column"
    assert capfd.readouterr().err.splitlines()[-1] == "ValueError: no such column"


def test_a_script_stops_after_the_steps_that_were_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = follow_text(tmp_path, TRAINING, stop_after=2)
    assert (result.status, result.exit_code) == (CommandStatus.STOPPED, 0)
    assert only(result).num_steps == 2
    assert capfd.readouterr().out == "step 0\n"


def test_a_step_is_a_round_of_several_optimizers(tmp_path: Path) -> None:
    text = """
        import torch
        layers = [torch.nn.Linear(512, 512, device="cuda") for _ in range(2)]
        optimizers = [torch.optim.AdamW(layer.parameters()) for layer in layers]
        for _ in range(3):
            for layer, optimizer in zip(layers, optimizers):
                layer(torch.ones(64, 512, device="cuda")).sum().backward()
                optimizer.step()
    """
    assert only(follow_text(tmp_path, text)).num_steps == 3


def test_steps_without_new_gradients_belong_to_the_one_before(tmp_path: Path) -> None:
    text = """
        import torch
        model = torch.nn.Linear(512, 512, device="cuda")
        optimizer = torch.optim.AdamW(model.parameters())
        optimizer.step()  # to set it up
        for _ in range(3):
            model(torch.ones(64, 512, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.step()  # another group of parameters, say
    """
    assert only(follow_text(tmp_path, text)).num_steps == 3


def test_optimizers_that_step_as_gradients_come_in_are_one_step_of_that_backward_pass(tmp_path: Path) -> None:
    text = """
        import torch
        model = torch.nn.Sequential(*(torch.nn.Linear(512, 512, device="cuda") for _ in range(3)))
        for parameter in model.parameters():
            optimizer = torch.optim.AdamW([parameter])
            def step(parameter, optimizer=optimizer):
                optimizer.step()
                optimizer.zero_grad()
            parameter.register_post_accumulate_grad_hook(step)
        for _ in range(5):
            model(torch.ones(64, 512, device="cuda")).sum().backward()
            print("done")
    """
    result = follow_text(tmp_path, text, stop_after=2)
    report = only(result)
    assert (result.status, report.num_steps) == (CommandStatus.STOPPED, 2)
    assert [(m.part, m.step) for m in report.marks] == [
        ("setup", 0),
        *(("forward", 0), ("backward", 0), ("forward", 1), ("backward", 1)),
    ]


def test_out_of_memory_is_told_with_torchs_message_and_the_line(tmp_path: Path) -> None:
    text = TRAINING + "    torch.empty(9 << 30, dtype=torch.uint8, device='cuda')"
    result = follow_text(tmp_path, text, gpu_memory_bytes=8 * GIB)
    report = only(result)
    assert (result.status, result.exit_code, report.num_ooms) == (CommandStatus.OOM, 1, 1)
    assert report.out_of_memory is not None
    assert report.out_of_memory.requested_bytes == 9 * GIB
    assert str(report.out_of_memory.line).endswith("train.py:11")
    assert report.ending is not None
    assert "Tried to allocate 9.00 GiB" in str(report.ending.error)


def test_where_it_was_this_machine_that_had_no_memory_the_card_was_not_full(tmp_path: Path) -> None:
    text = """
        import resource, torch
        taken = 4096 * int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (taken + (256 << 20), -1))
        torch.empty(1 << 28, device="cuda")
    """
    result = follow_text(tmp_path, text)
    assert result.status is CommandStatus.ERROR
    assert "this machine had no memory left" in " ".join(result.notes)


def test_a_script_that_catches_out_of_memory_and_goes_on_has_run(tmp_path: Path) -> None:
    text = """
        import torch
        try:
            torch.empty(99 << 30, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    """
    result = follow_text(tmp_path, text)
    assert (result.status, result.exit_code) == (CommandStatus.OK, 0)
    assert any("ran out of memory 1 times and went on" in note for note in result.notes)


def test_a_script_that_is_killed_has_told_of_its_last_step(tmp_path: Path) -> None:
    result = follow_text(tmp_path, TRAINING + "    import os; os.kill(os.getpid(), 9)")
    report = only(result)
    assert (result.status, result.exit_code, result.signal) == (CommandStatus.KILLED, 137, 9)
    assert report.ending is None
    assert [m.part for m in report.marks[:3]] == ["setup", "forward", "backward"]
    assert result.device_used_bytes is not None


def test_a_script_that_ends_itself_at_once_is_told_to_the_end(tmp_path: Path) -> None:
    result = follow_text(tmp_path, TRAINING + "    import os; os._exit(5)")
    report = only(result)
    assert (result.exit_code, report.num_steps) == (5, 3)
    assert report.ending is not None
    assert report.ending.kind == "os._exit"


def test_a_script_that_hangs_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    text = """
        import pathlib, subprocess, sys, time
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        child = subprocess.Popen(command, start_new_session=True)
        pathlib.Path(sys.argv[1]).write_text(str(child.pid))
        import torch
        torch.ones(4, device="cuda")
        time.sleep(600)
    """
    result = follow_text(tmp_path, text, str(tmp_path / "child"), timeout_s=6)
    assert (result.status, result.exit_code) == (CommandStatus.TIMEOUT, 124)
    assert result.notes[0] == "ended after the time limit of 6 s"
    assert not is_running(int((tmp_path / "child").read_text()))


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_peakvram_is_passed_on_and_what_was_seen_is_told(
    number: signal.Signals, exit_code: int, tmp_path: Path
) -> None:
    script, out, ready = tmp_path / "train.py", tmp_path / "result.json", tmp_path / "ready"
    waiting = "    import pathlib, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    script.write_text(textwrap.dedent(TRAINING + waiting))
    options = ("--gpu", "rtx-4090", "--out", str(out))
    following = subprocess.Popen(
        [sys.executable, "-m", "profiler", "exec", *options, "--", sys.executable, str(script), str(ready)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as under a scheduler: no terminal tells the script
    )
    while not ready.exists() and following.poll() is None:
        time.sleep(0.05)
    following.send_signal(number)
    _, said = following.communicate()
    assert following.returncode == exit_code
    assert f"the command was ended by {number.name}; the last that was seen of it" in said
    result = json.loads(out.read_text())
    assert (result["status"], result["signal"]) == ("killed", number)
    assert [m["part"] for m in result["processes"][0]["marks"][:3]] == ["setup", "forward", "backward"]


def is_running(pid: int) -> bool:
    """Whether it runs; one that has ended may be listed until its parent asks for it, without a command."""
    command = Path(f"/proc/{pid}/cmdline")
    return command.exists() and command.read_bytes() != b""


def test_a_signal_while_the_command_is_only_just_there_ends_it_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def terminated(pid: int, wanted: dict[str, str]) -> NoReturn:
        started.append((pid, wanted[VARIABLE]))
        raise SystemExit(143)

    started: list[tuple[int, str]] = []
    monkeypatch.setattr("profiler.follow.command.ProcessTree", terminated)
    with pytest.raises(SystemExit):
        follow("sleep", "60")
    ((pid, directory),) = started
    assert not is_running(pid)
    assert find_processes(Path(directory)) == []
    assert not Path(directory).exists()


def test_a_command_that_never_uses_cuda_says_so() -> None:
    result = follow("sh", "-c", "exit 0")
    assert (result.status, result.exit_code, result.processes) == (CommandStatus.UNUSED, 0, ())
    assert result.peak is None


def test_a_script_that_hides_the_card_from_itself_is_told_so(tmp_path: Path) -> None:
    text = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = '1'; import torch; torch.cuda.device_count()"
    result = follow_text(tmp_path, text)
    assert result.status is CommandStatus.UNUSED
    assert [note.partition(",")[0] for note in result.notes] == [
        "the command set CUDA_VISIBLE_DEVICES to '1'"
    ]


def test_a_command_that_is_not_there_is_wrong_usage() -> None:
    with pytest.raises(ConfigError, match="cannot run 'no-such-command': no such file or directory"):
        follow("no-such-command")


def test_a_missing_function_is_told_by_name(tmp_path: Path) -> None:
    text = """
        import torch
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.ones(4, device="cuda")
    """
    result = follow_text(tmp_path, text)
    assert (result.status, result.exit_code) == (CommandStatus.ERROR, 1)
    assert result.unknown_functions == ("cudaStreamBeginCapture",)


def test_children_are_followed_whether_spawned_or_forked(tmp_path: Path) -> None:
    text = """
        import multiprocessing, subprocess, sys, torch

        def work(size):
            torch.empty(size << 20, dtype=torch.uint8, device="cuda")

        if __name__ == "__main__":
            for method, size in (("spawn", 30), ("fork", 20)):
                child = multiprocessing.get_context(method).Process(target=work, args=(size,))
                child.start()
                child.join()
                assert child.exitcode == 0
            work(10)
    """
    result = follow_text(tmp_path, text)
    assert result.exit_code == 0
    assert [p.reserved_peak_bytes // MIB for p in result.processes] == [30, 20, 10]
    context_bytes = result.device.context_bytes
    assert context_bytes is not None
    assert [p.device_used_bytes for p in result.processes] == [
        p.reserved_peak_bytes + context_bytes for p in result.processes
    ]


def test_each_process_tells_its_exit_status(tmp_path: Path) -> None:
    text = """
        import os, subprocess, sys, torch
        torch.ones(4, device="cuda")
        match sys.argv[1:]:
            case []:
                for end in "exit", "raise", "return", "at once", "kill":
                    subprocess.run([sys.executable, __file__, end])
                raise SystemExit(42)
            case ["exit"]: sys.exit(5)
            case ["raise"]: raise ValueError
            case ["at once"]: os._exit(9)
            case ["kill"]: os.kill(os.getpid(), 15)
    """
    result = follow_text(tmp_path, text)
    assert result.exit_code == 42
    statuses = {p.command[-1]: p.exit_status for p in result.processes}
    assert statuses == {
        str(tmp_path / "train.py"): 42,
        **{"exit": 5, "raise": 1, "return": 0, "at once": 9, "kill": None},
    }


def test_several_training_processes_are_refused(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import torch; torch.distributed.init_process_group('nccl')")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    with pytest.raises(EnvironmentUnfitError) as caught:
        follow(*launcher, str(script))
    assert caught.value.message == "the command trains with 2 processes (WORLD_SIZE=2); exec follows one card"
    assert "--nproc-per-node 1" in caught.value.hint


def test_processes_that_a_script_joins_itself_are_refused(tmp_path: Path) -> None:
    text = """
        import sys, torch

        def work(rank, takes_its_card_first, meeting):
            if takes_its_card_first:
                torch.cuda.set_device(rank)
            torch.distributed.init_process_group("nccl", meeting, rank=rank, world_size=2)

        if __name__ == "__main__":
            arguments = sys.argv[2:] == ["first"], "file://" + sys.argv[1]
            torch.multiprocessing.spawn(work, args=arguments, nprocs=2)
    """
    with pytest.raises(EnvironmentUnfitError, match="trains with 2 processes"):
        follow_text(tmp_path, text, str(tmp_path / "one"))
    with pytest.raises(EnvironmentUnfitError) as caught:
        follow_text(tmp_path, text, str(tmp_path / "other"), "first")
    # Whoever is first: the one without a card, or the one that waits for it.
    assert "asks for a second card" in caught.value.message or "2 processes" in caught.value.message


def test_a_pretended_group_of_several_is_one_process(tmp_path: Path) -> None:
    text = """
        import torch
        from torch.testing._internal.distributed.fake_pg import FakeStore

        torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
        counts = torch.ones(4, dtype=torch.int64, device="cuda")
        torch.distributed.all_reduce(counts)
        assert counts.tolist() == [1, 1, 1, 1]
    """
    assert follow_text(tmp_path, text).status is CommandStatus.OK


def test_values_are_true_in_every_thread(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = """
        import threading, torch
        from concurrent.futures import ThreadPoolExecutor

        def count(n):
            many = int(torch.arange(n, device="cuda").gt(2).sum())
            return many, torch.rand(n, device="cuda").isnan().any().item()

        with ThreadPoolExecutor(2) as pool:
            print(list(pool.map(count, [5, 9])), count(4))
    """
    result = follow_text(tmp_path, text)
    reads = only(result).reads
    assert result.exit_code == 0
    assert capfd.readouterr().out == "[(2, False), (6, False)] (1, False)\n"
    assert reads is not None
    assert (reads.decisions, reads.others) == (0, 0)


def test_reads_a_result_depends_on_are_told_from_those_it_does_not(tmp_path: Path) -> None:
    text = """
        import torch
        loss = torch.rand(4, device="cuda").sum()
        print(loss.item())
        assert torch.isfinite(loss) and not torch.isnan(loss) and not torch.isinf(loss).any()
        if loss > 1:
            print("never")
        kept = torch.rand(9, device="cuda").gt(0.5).nonzero()
    """
    reads = only(follow_text(tmp_path, text)).reads
    assert reads is not None
    assert (reads.decisions, reads.others) == (2, 1)
    assert [site.rpartition("/")[2] for site in reads.decision_sites] == [
        "train.py:6 (_local_scalar_dense) x1",
        "train.py:8 (nonzero) x1",
    ]
    assert [site.rpartition("/")[2] for site in reads.other_sites] == [
        "train.py:4 (_local_scalar_dense) x1",
    ]


def test_the_scripts_own_modules_and_sitecustomize_are_found_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins; builtins.chained = __file__")
    (own / "profiler.py").write_text("ANSWER = 42")
    monkeypatch.setenv("PYTHONPATH", str(own))
    text = """
        import sys, torch, profiler, sitecustomize
        assert profiler.ANSWER == 42, profiler
        assert chained == sitecustomize.__file__ == sys.argv[1], chained
        assert not [name for name in sys.modules if name.startswith("profiler.")]
        assert not [path for path in sys.path if "peakvram" in path]
        assert "exec_module" not in vars(torch.__spec__.loader)
        torch.ones(4, device="cuda")
    """
    result = follow_text(tmp_path, text, str(own / "sitecustomize.py"))
    assert result.exit_code == 0
    assert only(result).num_ooms == 0


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = dict(os.environ)
    follow_text(tmp_path, "import torch; torch.ones(4, device='cuda')")
    assert list(temporary.iterdir()) == []
    assert dict(os.environ) == before


def test_on_a_real_card_the_same_is_told_and_the_device_is_sampled(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-4090", _follow_on_a_card_taken_for_real)
    assert (seen["status"], seen["exit_code"], seen["device"]["kind"]) == ("ok", 0, "real")
    (report,) = seen["processes"]
    assert report["reads"] is None
    assert report["num_steps"] == 3
    assert seen["routing"] is None
    assert seen["device_used_bytes"] >= report["device_used_bytes"] > report["reserved_peak_bytes"]
    assert seen["notes"] == []


def _follow_on_a_card_taken_for_real() -> Any:
    with tempfile.TemporaryDirectory() as directory:
        text = TRAINING + "    import time; time.sleep(0.2)"  # so that a sample falls within
        return follow_text(Path(directory), text, gpu="real").model_dump(mode="json")


def test_the_same_script_takes_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = (only(follow_text(tmp_path, TRAINING)) for _ in range(2))
    assert first.marks == second.marks


def test_the_command_line_keeps_the_exit_code_and_writes_what_it_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script, out = tmp_path / "train.py", tmp_path / "result.json"
    script.write_text("import torch\ntorch.ones(4, device='cuda')\nprint('done')\nraise SystemExit(4)")
    arguments = ["exec", "--gpu", "rtx-4090", "--out", str(out), "--json", "--", sys.executable, str(script)]
    assert run_command(arguments) == 4
    told, said = capfd.readouterr()
    first, last = told.splitlines()
    assert first == "done"
    assert json.loads(last) == json.loads(out.read_text())
    assert said == f"Wrote {out}\n"
