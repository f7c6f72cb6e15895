"""The first process of namespaces of its own: imports all that commands need, and plays life after life."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.faults import commands, disks, processes
from tests.faults.kinds import KINDS, Kind, Scene
from tests.faults.lives import Life, Stage, play_sweep, run_again
from tests.faults.others import play_exec, play_explain, play_pack
from tests.faults.plants import make_victim
from tests.faults.shim import Calls
from tests.faults.studies import Ledger, all_jobs, new_study, write_model
from tests.faults.table import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

_BROKEN = 4
_PLAYS: dict[str, Callable[[Kind, Scene, Stage], Life]] = {
    "sweep": play_sweep,
    "exec": play_exec,
    "explain": play_explain,
    "pack": play_pack,
}
_SHARES = {"sweep": 8, "exec": 1, "explain": 2, "pack": 1}
_STEPS = 1


def main(options: dict[str, Any]) -> int:
    """Play until there were enough faults. 0 where all has held."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us ignores it
    seed = options["seed"]
    _say(f"seed {seed}: importing what commands need ...")
    commands.import_all()
    stage, tally, calls = prepare(), Tally(), Calls()
    kinds = [KINDS[name] for name in options["kind"] or KINDS]
    shares = {name: _SHARES[name] for name in options["command"] or _SHARES}
    kinds = [kind for kind in kinds if any(name in shares for name in kind.commands)]
    with suppress(KeyboardInterrupt):
        while tally.num_faults < options["count"]:
            kind = tally.next_of(kinds)
            own_seed = seed + stage.num_lives
            scene = Scene(rng=random.Random(own_seed), calls=calls)
            command = tally.next_command(kind, shares)
            stage.is_warm = scene.rng.random() >= options["cold"]
            life = _play(kind, command, scene, stage)
            tally.add(kind, life, is_warm=stage.is_warm)
            if life.wrong:
                _tell_wrong(life, kind, own_seed, stage)
            stage.num_lives += 1
            counted = f"{tally.num_faults}/{options['count']}, broken {tally.num_wrong}"
            _say(f"{counted}: {kind.name} of {command}: {'; '.join(life.faults)}: {life.exit_codes}")
            for path in stage.folder.iterdir():
                path.unlink()
    sys.stdout.write(tally.to_json() + "\n")
    return _BROKEN if tally.num_wrong else 0


def _play(kind: Kind, command: str, scene: Scene, stage: Stage) -> Life:
    try:
        return _PLAYS[command](kind, scene, stage)
    except Exception:
        processes.end_orphans(0)
        return Life(command=command, wrong=[f"the saboteur failed: {traceback.format_exc()}"])


def prepare() -> Stage:
    """The jobs, and what they take where nothing is hurt."""
    write_model()
    make_victim()
    for name in ("home", "home/inductor", "outputs", "kept"):
        (disks.HOME / name).mkdir()
    disks.remove(disks.leftovers())  # of what was imported here
    jobs, ledger = all_jobs(_STEPS), Ledger()
    stage = Stage(jobs=jobs, ledger=ledger, folder=disks.HOME / "outputs")
    study = new_study("reference", jobs, ledger)
    life = Life(command="sweep")
    run_again(life, stage, study.arguments())
    assert not life.wrong, f"{life.wrong}: {life.told}"
    ledger.learn(study.stored())
    return stage


def _tell_wrong(life: Life, kind: Kind, seed: int, stage: Stage) -> None:
    folder = disks.HOME / "kept" / f"{stage.num_lives}-{kind.name}"
    folder.mkdir()
    (folder / "told.txt").write_text("\n".join([*life.faults, str(life.exit_codes), *life.wrong, life.told]))
    place = disks.DISK / f"study-{stage.num_lives}"
    if place.is_dir():
        shutil.copytree(place, folder / "study", symlinks=True)
    for wrong in life.wrong:
        _say(f"BROKEN: {kind.name} of {life.command}: {wrong}")
    _say(f"  after: {'; '.join(life.faults)}; exit codes {life.exit_codes}")
    again = f"--seed {seed} --kind {kind.name} --command {life.command} --count 1"
    _say(f"  again: scripts/faults {again}; kept in {folder.name}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    code = main(json.loads(sys.argv[1]))
    sys.stdout.flush()
    processes.end_orphans(0)
    os._exit(code)  # the preloaded calls look at a page that goes with the interpreter
