"""The kinds of faults: what each does to a command that runs, at the moment it is called."""

from __future__ import annotations

import errno
import resource
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tests.faults import disks, processes
from tests.faults.plants import plant_leftovers, plant_links, tear_a_record

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.faults.shim import Calls

KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_ERRORS = (errno.EIO, errno.EIO, errno.EDQUOT, errno.ENOSPC, errno.EROFS)
_MAX_CALLS = 40  # so many calls on files go before the one that fails, at most
_CALL_LIMIT_S = 2.0
_WINDOW_S = (0.05, 0.6)  # for how long a disk is full
_ROOMS = (0, 0, 4096, 16384)  # and how many bytes there are then
_PAGE = 4096


@dataclass
class Victims:
    """What there is to be hurt, at a moment.

    Attributes:
        commands: processes of commands.
        servers: processes that workers are forked from; none where a command has none.
        workers: processes that use the card.
        folder: what the command writes its results to.
    """

    commands: list[int]
    servers: list[int]
    workers: list[int]
    folder: Path

    @property
    def all(self) -> list[int]:
        """Every process."""
        return [*self.commands, *self.servers, *self.workers]


@dataclass
class Scene:
    """What a fault is done with.

    Attributes:
        rng: decides all that is left to chance.
        calls: calls that are made to fail.
        undo: what is to be undone once the command has ended.
        signals: those that workers were sent.
        spoilt: names of records that were torn.
        planted: what was put into the places for temporary files, and has to be left alone.
    """

    rng: random.Random
    calls: Calls
    undo: ExitStack = field(default_factory=ExitStack)
    signals: set[int] = field(default_factory=set)
    spoilt: set[str] = field(default_factory=set)
    planted: list[Path] = field(default_factory=list)

    def window_s(self) -> float:
        """For how long something lasts."""
        return self.rng.uniform(*_WINDOW_S)


_Inject: TypeAlias = "Callable[[Scene, Victims], str | None]"


@dataclass(frozen=True)
class Kind:
    """A kind of faults.

    Attributes:
        name: as it is asked for, and shown.
        share: how often it comes, beside the others.
        commands: what it is done to.
        inject: does it; a few words on what it was, None where nobody was left to be hurt.
        most: how many such faults one command can meet, as it goes on after each.
    """

    name: str
    share: int
    commands: tuple[str, ...]
    inject: _Inject
    most: int = 1


def _signal_to(role: str, number: signal.Signals) -> _Inject:
    def inject(scene: Scene, victims: Victims) -> str | None:
        pids: list[int] = getattr(victims, role)
        if not pids:
            return None
        pid = scene.rng.choice(pids)
        if role == "workers":
            scene.signals.add(number)
        if role == "servers":  # a job that two of them have died with is taken for the cause
            scene.signals.add(signal.SIGKILL)
        if number == signal.SIGKILL and scene.rng.random() < 0.3:
            return _at_a_call(scene, -number, pid=pid)
        return f"{number.name} to {pid}" if processes.send([pid], number) else None

    return inject


def _several(scene: Scene, victims: Victims) -> str | None:
    """Two or more at once: each a signal of its own, in an order of chance."""
    pids = victims.all
    if len(pids) < 2:
        return None
    chosen = scene.rng.sample(pids, scene.rng.randint(2, len(pids)))
    sent = []
    for pid in chosen:
        number = scene.rng.choice(KILLS)
        if pid in victims.workers or pid in victims.servers:
            scene.signals.add(number if pid in victims.workers else signal.SIGKILL)
        if processes.send([pid], number):
            sent.append(f"{number.name} to {pid}")
    return ", ".join(sent) or None


def _at_a_call(scene: Scene, error: int, *, pid: int = 0) -> str | None:
    """A call that a process makes on a file fails, or is its last."""
    scene.calls.fail(error, after=scene.rng.randrange(_MAX_CALLS), pid=pid)
    deadline_s = time.monotonic() + _CALL_LIMIT_S
    while (hit := scene.calls.hit) is None and time.monotonic() < deadline_s:
        time.sleep(0.005)
        if pid and not processes.tree_of(pid):
            break
    scene.calls.stop()
    return None if hit is None else f"{error} to {hit[0]} at {hit[1]}"


def _pack_kill(scene: Scene, victims: Victims) -> str | None:
    return _at_a_call(scene, -signal.SIGKILL, pid=victims.commands[0])


def _failing_call(scene: Scene, victims: Victims) -> str | None:
    pids = [0, *victims.all]
    return _at_a_call(scene, scene.rng.choice(_ERRORS), pid=scene.rng.choice(pids))


def _full(place: Path) -> _Inject:
    def inject(scene: Scene, _victims: Victims) -> str | None:
        room_bytes = scene.rng.choice(_ROOMS)
        if not disks.fill(place, room_bytes=room_bytes):
            return None
        time.sleep(scene.window_s())
        disks.empty_again(place)
        return f"{place} with {room_bytes} bytes of room"

    return inject


def _read_only(scene: Scene, victims: Victims) -> str | None:
    if not disks.freeze(victims.folder):
        return None
    scene.undo.callback(disks.thaw, victims.folder)
    return f"{victims.folder} is read-only"


def _limit(which: int, limit_of: Callable[[random.Random, int], int]) -> _Inject:
    def inject(scene: Scene, victims: Victims) -> str | None:
        if not victims.all:
            return None
        roles = (victims.commands, victims.servers, victims.workers)
        pid = scene.rng.choice(scene.rng.choice([pids for pids in roles if pids]))
        limit = limit_of(scene.rng, pid)
        with suppress(ProcessLookupError, PermissionError):
            _, most = resource.prlimit(pid, which)
            resource.prlimit(pid, which, (limit, most))
            return f"limit {limit} for {pid}"
        return None

    return inject


def _beside(scene: Scene, victims: Victims) -> str | None:
    """One of two commands at work on the same study is ended."""
    if len(victims.commands) < 2:
        return None
    pid, number = scene.rng.choice(victims.commands), scene.rng.choice(KILLS)
    return f"{number.name} to one of two, {pid}" if processes.send([pid], number) else None


def _leftovers(scene: Scene, victims: Victims) -> str | None:
    return plant_leftovers(scene.rng, victims.folder)


def _links(scene: Scene, _victims: Victims) -> str | None:
    link = plant_links(scene.rng)
    scene.planted.append(link)
    return str(link)


def _torn(scene: Scene, victims: Victims) -> str | None:
    torn = tear_a_record(scene.rng, victims.folder)
    if torn is None:
        return None
    scene.spoilt.add(torn[0].name)
    return f"{torn[0].name}: {torn[1]}"


_FILE_SIZES = (0, 100, 1000, 8000)


def _file_size(rng: random.Random, _pid: int) -> int:
    return rng.choice(_FILE_SIZES)


def _num_files(rng: random.Random, pid: int) -> int:
    return processes.num_files(pid) + rng.randrange(4)


def _memory(rng: random.Random, pid: int) -> int:
    return processes.memory_bytes(pid) + rng.randrange(1 << 13) * _PAGE


_ALL, _RUNS = ("sweep", "exec", "explain"), ("sweep", "explain")

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("command-kill", 100, _ALL, _signal_to("commands", signal.SIGKILL)),
        Kind("command-term", 70, _ALL, _signal_to("commands", signal.SIGTERM)),
        Kind("command-int", 70, _ALL, _signal_to("commands", signal.SIGINT)),
        Kind("server-kill", 50, ("sweep",), _signal_to("servers", signal.SIGKILL), most=3),
        Kind("server-term", 30, ("sweep",), _signal_to("servers", signal.SIGTERM), most=3),
        Kind("server-int", 30, ("sweep",), _signal_to("servers", signal.SIGINT), most=3),
        Kind("worker-kill", 90, _ALL, _signal_to("workers", signal.SIGKILL), most=6),
        Kind("worker-term", 60, _ALL, _signal_to("workers", signal.SIGTERM), most=6),
        Kind("worker-int", 60, _ALL, _signal_to("workers", signal.SIGINT), most=6),
        Kind("several", 90, _ALL, _several),
        Kind("shared-memory-full", 50, _RUNS, _full(disks.SHARED_MEMORY), most=3),
        Kind("scratch-full", 50, _ALL, _full(disks.TEMPORARY), most=3),
        Kind("study-full", 30, ("sweep",), _full(disks.DISK)),
        Kind("study-read-only", 30, ("sweep",), _read_only),
        Kind("failing-call", 80, _RUNS, _failing_call, most=3),
        Kind("file-size", 40, _ALL, _limit(resource.RLIMIT_FSIZE, _file_size)),
        Kind("open-files", 40, _ALL, _limit(resource.RLIMIT_NOFILE, _num_files)),
        Kind("memory", 40, _ALL, _limit(resource.RLIMIT_AS, _memory)),
        Kind("two-commands", 40, ("sweep",), _beside),
        Kind("two-packs", 30, ("pack",), lambda _scene, _victims: "two at once"),
        Kind("pack-kill", 40, ("pack",), _pack_kill),
        Kind("leftovers", 30, _ALL, _leftovers, most=3),
        Kind("links", 30, _ALL, _links, most=3),
        Kind("torn-record", 30, ("sweep",), _torn, most=2),
    )
}
