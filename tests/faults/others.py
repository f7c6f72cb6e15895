"""The other commands that are hurt: `exec`, `explain` and `pack`."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from profiler.follow.result import CommandResult, CommandStatus
from profiler.records.schema import OutcomeStatus, Record
from tests.faults import disks, processes
from tests.faults.commands import start
from tests.faults.kinds import Kind, Scene, Victims
from tests.faults.lives import Life, Stage, check_leftovers, finish, hurt, run_again
from tests.faults.studies import MODEL, StudyOnTrial, new_study
from tests.virtual.jobs import without_times

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.commands import Command

SCRIPT = disks.HOME / "train.py"
_TRAINING = """
import os, sys
# What the script itself says when it is interrupted is not ours.
said = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(said, 1), os.dup2(said, 2)
import torch

def train():
    model = torch.nn.Linear(64, 64, device="cuda")
    for step in range(20):
        loss = model(torch.ones(8, 64, device="cuda")).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad

for number in range(8):
    child = os.fork()
    if child == 0:
        train()
        raise SystemExit
    os.waitpid(child, 0)
"""
_NUM_PACKED = 5


def _learn(name: str, arguments: Callable[[Path, Stage], list[str]], stage: Stage) -> None:
    """What `exec` or `explain` say where nothing is hurt."""
    if name in stage.ledger.others:
        return
    SCRIPT.write_text(_TRAINING)
    out = disks.DISK / name
    out.mkdir()
    life = Life(command=name)
    run_again(life, stage, arguments(out, stage), f"reference-{name}")
    assert not life.wrong, f"{life.wrong}: {life.told}"
    stage.ledger.others[name] = _RESULTS[name](out)


def play_exec(kind: Kind, scene: Scene, stage: Stage) -> Life:
    """A script that is followed, with children of its own that train."""

    def victims(command: Command, out: Path) -> Victims:
        scripts = processes.children_of(command.pid)
        workers = [child for pid in scripts for child in processes.children_of(pid)]
        return Victims(commands=[command.pid], servers=scripts, workers=workers, folder=out)

    return _play(kind, scene, stage, name="exec", victims=victims, arguments=_exec, next_run=_exec_nothing)


def play_explain(kind: Kind, scene: Scene, stage: Stage) -> Life:
    """A job that is explained."""

    def victims(command: Command, out: Path) -> Victims:
        workers = processes.children_of(command.pid)
        return Victims(commands=[command.pid], servers=[], workers=workers, folder=out)

    return _play(kind, scene, stage, name="explain", victims=victims, arguments=_explain, next_run=_explain)


def play_pack(kind: Kind, scene: Scene, stage: Stage) -> Life:
    """A study that is packed: by two at once, or by one that is killed between two of its steps."""
    life = Life(command="pack")
    study = _stored_study(scene, stage)
    arguments = ["pack", str(study.place), "--remove"]
    sweep = None
    if scene.rng.random() < 0.5:
        sweep = start(study.arguments(), stage.output("sweep"), is_warm=stage.is_warm)
        _until_at_work(sweep)
    num_at_work = 0 if sweep is None else len(processes.tree_of(sweep.pid)) > 2
    names = ("first", "second") if kind.name == "two-packs" else ("first",)
    commands = [start(arguments, stage.output(name), is_warm=stage.is_warm) for name in names]
    pids = [command.pid for command in commands]
    what = kind.inject(scene, Victims(commands=pids, servers=[], workers=[], folder=study.place))
    if what is not None:
        life.faults.append(what)
        life.num_at_work += num_at_work
    finish(life, [*commands, *([sweep] if sweep else [])])
    life.wrong += study.check()
    run_again(life, stage, study.arguments())
    run_again(life, stage, arguments, "next-pack")
    life.wrong += study.check() + study.check_complete()
    life.wrong += [f"loose after packing: {path.name}" for path in study.records.glob("*.json")]
    check_leftovers(life, scene)
    return life


def _play(
    kind: Kind,
    scene: Scene,
    stage: Stage,
    *,
    name: str,
    victims: Callable[[Command, Path], Victims],
    arguments: Callable[[Path, Stage], list[str]],
    next_run: Callable[[Path, Stage], list[str]],
) -> Life:
    _learn(name, arguments, stage)
    life = Life(command=name)
    out = disks.DISK / f"{name}-{stage.num_lives}"
    out.mkdir()
    command = start(arguments(out, stage), stage.output("first"), is_warm=stage.is_warm)
    with scene.undo:
        hurt(life, kind, scene, [command], lambda: victims(command, out))
    life.wrong += _check_result(name, out, stage, signals=scene.signals)
    run_again(life, stage, next_run(out, stage))
    life.wrong += [f"left in the study: {path}" for path in out.rglob(".*")]
    life.wrong += _check_result(name, out, stage, signals=scene.signals)
    check_leftovers(life, scene)
    shutil.rmtree(out)
    return life


def _check_result(name: str, out: Path, stage: Stage, *, signals: set[int]) -> list[str]:
    """A result is whole or not there; one of a command that was not disturbed is what it always is."""
    try:
        result = _RESULTS[name](out)
    except FileNotFoundError:
        return []
    except (ValidationError, ValueError) as error:
        return [f"unreadable: {error}"]
    if isinstance(result, Record) and result.outcome.status is not OutcomeStatus.OK:
        if result.outcome.status is OutcomeStatus.KILLED and result.outcome.signal in signals:
            return []
        return [f"a fault is told as the job's own: {result.outcome.status} {result.outcome.message}"]
    right = stage.ledger.others[name]
    figures = without_times(result) if isinstance(result, Record) else result
    if isinstance(right, Record):
        right = without_times(right)
    return [] if _agree(figures, right) else [f"figures differ: {figures} {right}"]


def _agree(figures: Any, right: Any) -> bool:
    """Of a script's processes each is to be as one of an undisturbed run, whatever became of the others."""
    return bool(figures <= right) if isinstance(figures, set) else bool(figures == right)


def _exec(out: Path, stage: Stage) -> list[str]:
    command = [sys.executable, str(SCRIPT), str(stage.output("script"))]
    return ["exec", "--gpu", "rtx-4090", "--out", str(out / "result.json"), "--", *command]


def _exec_nothing(out: Path, _stage: Stage) -> list[str]:
    return ["exec", "--gpu", "rtx-4090", "--out", str(out / "next.json"), "--", "true"]


def _explain(out: Path, _stage: Stage) -> list[str]:
    job = [str(MODEL), "--method", "lora", "--seq-len", "32", "--steps", "2", "--batch-size", "1"]
    return ["explain", *job, "--gpu", "rtx-4090", "--no-suggest", "--out", str(out)]


def _read_exec(out: Path) -> set[tuple[int | None, int]]:
    """The peaks of each process that told its own end."""
    result = CommandResult.model_validate_json((out / "result.json").read_text())
    if result.status is CommandStatus.OOM:
        raise ValueError("a fault is told as a full card")
    ended = [
        report
        for report in result.processes
        if report.ending is not None and report.ending.error is None and report.exit_status == 0
    ]
    return {(report.allocated_peak_bytes, report.reserved_peak_bytes) for report in ended}


def _read_explain(out: Path) -> Record:
    tree = json.loads((out / "explanation.json").read_text())
    return Record.model_validate(tree["record"])


_RESULTS: dict[str, Callable[[Path], Any]] = {"exec": _read_exec, "explain": _read_explain}


def _stored_study(scene: Scene, stage: Stage) -> StudyOnTrial:
    """A study with some records and some jobs still to be run."""
    jobs = scene.rng.sample(stage.jobs, _NUM_PACKED + 2)
    study = new_study(f"study-{stage.num_lives}", jobs, stage.ledger)
    study.store(jobs[:_NUM_PACKED])
    study.check()
    return study


def _until_at_work(sweep: Command) -> None:
    while sweep.poll() is None and len(processes.tree_of(sweep.pid)) < 3:
        time.sleep(0.01)
