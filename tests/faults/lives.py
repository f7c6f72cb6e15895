"""One command, from its start past what is done to it to the next run, which must find all in order."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.faults import disks, processes
from tests.faults.commands import HUNG, Command, start
from tests.faults.kinds import Kind, Scene, Victims
from tests.faults.plants import check_victim
from tests.faults.studies import Ledger, StudyOnTrial, new_study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from profiler.jobs.job import JobSpec

LIMIT_S = 180.0
_ORPHAN_LIMIT_S = 15.0
_LOOK_AGAIN_S = 0.004
_WORKER_S = 1.0  # how long a worker lives, about
_START_S = 0.6
_AT_WORK, _AT_START, _AT_END = 0.8, 0.12, 0.08
"""How often a fault is to come while workers run, before, and after the last of them."""
_TRACES = re.compile(r"^.*(?:Traceback \(most|Fatal Python error|Exception ignored).*$", re.MULTILINE)


@dataclass
class Life:
    """What was done in the life of one command, and what came of it.

    Attributes:
        command: the command's name.
        faults: for each fault, what it was.
        num_at_work: how many of them came while a worker ran.
        wrong: what must not be.
        exit_codes: of the commands that were hurt.
        told: all that they and the next run wrote.
    """

    command: str
    faults: list[str] = field(default_factory=list)
    num_at_work: int = 0
    wrong: list[str] = field(default_factory=list)
    exit_codes: list[int | str] = field(default_factory=list)
    told: str = ""


@dataclass
class Stage:
    """Where lives are played.

    Attributes:
        jobs: what may be swept.
        ledger: what is right.
        folder: of the outputs; empty at first.
        is_warm: whether commands are forks.
    """

    jobs: Sequence[JobSpec]
    ledger: Ledger
    folder: Path
    is_warm: bool = True
    num_lives: int = 0

    def output(self, name: str) -> Path:
        """A new file for what a command writes."""
        return self.folder / f"{self.num_lives}-{name}.txt"


def wait_for_moment(
    scene: Scene, commands: Sequence[Command], victims: Callable[[], Victims], *, num_before: int
) -> Victims | None:
    """Wait for a moment of chance, most often one at which a worker runs; None if there is none any more."""
    chance = scene.rng.random()
    if num_before == 0 and chance < _AT_START:
        time.sleep(scene.rng.uniform(0, _START_S))
    elif num_before == 0 and chance < _AT_START + _AT_END:
        _until(commands, lambda: bool(victims().workers))
        _until(commands, lambda: not victims().workers)
    else:
        delay_s = scene.rng.uniform(0, _WORKER_S)
        if not _until(commands, lambda: bool(victims().workers)):
            return None
        time.sleep(delay_s)
        _until(commands, lambda: bool(victims().workers))
    return victims() if any(command.poll() is None for command in commands) else None


def _until(commands: Sequence[Command], condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        if condition():
            return True
        if all(command.poll() is not None for command in commands):
            return False
        time.sleep(_LOOK_AGAIN_S)
    return False


def hurt(
    life: Life, kind: Kind, scene: Scene, commands: Sequence[Command], victims: Callable[[], Victims]
) -> None:
    """Do what the kind says, once or several times, and wait until all commands have ended."""
    for _ in range(scene.rng.randint((kind.most + 1) // 2, kind.most)):
        found = wait_for_moment(scene, commands, victims, num_before=len(life.faults))
        if found is None:
            break
        is_at_work = bool(found.workers)
        what = kind.inject(scene, found)
        if what is not None:
            life.faults.append(f"{what}{' while a worker ran' if is_at_work else ''}")
            life.num_at_work += is_at_work
    finish(life, commands)


def finish(life: Life, commands: Sequence[Command]) -> None:
    """Wait for the end of commands, and of all that they have started."""
    for command in commands:
        code = command.wait(LIMIT_S)
        life.exit_codes.append(code)
        check_told(life, command)
        if code == HUNG:
            life.wrong.append("hung")
    life.wrong += [f"orphan: {orphan}" for orphan in processes.end_orphans(_ORPHAN_LIMIT_S)]


def check_told(life: Life, command: Command) -> None:
    """No traceback is for a user to read."""
    life.told += f"--- {command.output.name}\n{command.told}"
    life.wrong += [f"traceback: {found}" for found in _TRACES.findall(command.told)]


def run_again(life: Life, stage: Stage, arguments: Sequence[str], name: str = "next") -> Command:
    """The next run, which nobody hurts: it must succeed, and leave nothing, its own or of those before."""
    command = start(arguments, stage.output(name), is_warm=stage.is_warm)
    again = Life(command=life.command)
    finish(again, [command])
    life.told += again.told
    life.wrong += [f"next run: {wrong}" for wrong in again.wrong]
    if again.exit_codes != [0]:
        life.wrong.append(f"next run: exit code {again.exit_codes[0]}")
    return command


def check_leftovers(life: Life, scene: Scene) -> None:
    """Nothing may be left in places for temporary files but what we have planted to be left alone."""
    planted = [str(path) for path in scene.planted]
    left = disks.leftovers()
    life.wrong += [f"leftover: {path}" for path in left if path not in planted]
    life.wrong += check_victim()
    disks.remove(left)


def play_sweep(kind: Kind, scene: Scene, stage: Stage) -> Life:
    """A sweep that is hurt, and resumed."""
    life = Life(command="sweep")
    num_jobs = scene.rng.randint(3, 4) + (3 if kind.most > 1 else 0)
    study = new_study(f"study-{stage.num_lives}", scene.rng.sample(stage.jobs, num_jobs), stage.ledger)
    names = ("first", "second") if kind.name == "two-commands" else ("first",)
    commands = [start(study.arguments(), stage.output(name), is_warm=stage.is_warm) for name in names]

    def victims() -> Victims:
        study.note_stored()
        running = [command.pid for command in commands if command.poll() is None]
        servers = [child for pid in running for child in processes.children_of(pid)]
        workers = [child for pid in servers for child in processes.children_of(pid)]
        return Victims(commands=running, servers=servers, workers=workers, folder=study.place)

    with scene.undo:
        hurt(life, kind, scene, commands, victims)
    signals, spoilt = frozenset(scene.signals), frozenset(scene.spoilt)
    life.wrong += study.check(signals=signals, spoilt=spoilt)
    life.wrong += _told_too_much(study, commands, num_spoilt=len(spoilt))
    run_again(life, stage, study.arguments("--rerun", "failed"))
    life.wrong += study.check(spoilt=spoilt) + study.check_complete()
    if disks.leftovers() and scene.planted == []:
        run_again(life, stage, study.arguments("--rerun", "all", "--limit", "1"), "clearing")
    check_leftovers(life, scene)
    if not life.wrong:
        _discard(study)
    return life


def _told_too_much(study: StudyOnTrial, commands: Sequence[Command], *, num_spoilt: int) -> list[str]:
    """What a sweep has told of is stored: it says so after it has stored it."""
    told = [int(ok) for command in commands for ok in re.findall(r"done, (\d+) ok", command.told)]
    num_ok = study.num_stored("ok") + num_spoilt
    return [f"lost: {max(told)} were told of, {num_ok} are there"] if told and max(told) > num_ok else []


def _discard(study: StudyOnTrial) -> None:
    shutil.rmtree(study.place, ignore_errors=True)
    study.file.unlink()
