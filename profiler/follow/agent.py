"""Inside one process of a followed command: reads what it takes of the card, and writes it down.

What it finds goes to a file in the directory of reports, written anew at every mark that is shown and else as
often as costs little, so that a process that is killed has told of all until then. A process that never uses
CUDA writes none.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from profiler.files import replace_file
from profiler.follow.ending import BY_EXEC, ExitStatus, ProcessEnd, watch_end
from profiler.follow.figures import Allocator, Figures
from profiler.follow.groups import refuse_several
from profiler.follow.parts import REST, PartWatch
from profiler.follow.threads import enter_everywhere, leave
from profiler.virtual.compiling import compiles_nothing
from profiler.virtual.reads import line_that_asked
from profiler.virtual.routing import Routing
from profiler.virtual.state import STATE_VARIABLE, StateLayout, open_state, set_architectures
from profiler.virtual.torch_private import CUDA_START, MEMORY_OBSERVER
from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_MARKS = 200
_MAX_SITES = 20
_MAX_WRITING = 0.01
"""At most this share of the time is spent on writing."""
_NUM_STEPS_IN_FULL = 2
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl", "datasets", "deepspeed")


def begin(settings: Mapping[str, Any]) -> None:
    """Follow this process, which has just imported torch.

    Raises:
        SystemExit: it is one of several that train together.
    """
    refuse_several(Path(settings["reports"]))
    Agent(settings).begin()


class Agent:
    """What is known of this process, and when it is written down."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Reads the settings; nothing is watched yet."""
        self._reports = Path(settings["reports"])
        self._stop_after: int | None = settings["stop_after"]
        self._visible: str | None = settings["visible"]
        is_virtual = settings["kind"] == "virtual"
        self._values = TrueValues(routing=Routing(settings["routing"])) if is_virtual else None
        self._card: StateLayout | None = None
        self._status = ExitStatus()
        self._allocator = Allocator()
        self._parts = PartWatch(self._add_mark, on_step=self._end_if_enough)
        self._forget()

    def begin(self) -> None:
        """Watch from here on."""
        self._allocator.watch_resets()
        self._parts.install()  # before the values: they run backward passes without themselves
        CUDA_START.find()(self._start_on_card)
        os.register_at_fork(after_in_child=self._start_in_child)
        watch_end(self._end, self._status)
        if self._values is not None:
            enter_everywhere(self._values)

    def _forget(self) -> None:
        self._name = f"{os.getpid()}-{time.monotonic_ns()}"
        self._uses_card = False
        self._is_over = False
        self._has_stopped = False
        self._cannot_store = False
        self._next_write_s = 0.0
        self._shown_peak_bytes = -1
        self._used_peak_bytes: int | None = None
        self._ending: ProcessEnd | None = None
        self._out_of_memory: dict[str, object] | None = None
        self._told_marks: list[dict[str, object]] = []

    def _start_in_child(self) -> None:
        self._forget()
        self._allocator.latest = Figures()
        self._parts.reset()
        if self._values is not None:
            for counted in (self._values.unknown_reads, self._values.assumed, self._values.inexact):
                counted.clear()

    def _start_on_card(self) -> None:
        """CUDA has come up in this process."""
        self._uses_card = True
        self._status.write_to(self._reports / f"{self._name}.status")
        if self._values is not None:
            self._card = open_state(Path(os.environ[STATE_VARIABLE]))
            set_architectures(self._card)
        match torch.cuda.memory.get_allocator_backend():
            case "native":  # the others take no observer
                MEMORY_OBSERVER.find()(self._remember_request)
            case "pluggable":
                problem = (
                    f"process {os.getpid()} has an allocator of its own: what that allocates is not known"
                )
                (self._reports / f"{self._name}.problem").write_text(problem)
        self._write()

    def _remember_request(self, _device: int, requested_bytes: int, _total: int, _free: int) -> None:
        self._out_of_memory = {"requested_bytes": requested_bytes, "line": line_that_asked()}

    def _add_mark(self, part: str, step: int) -> None:
        if not self._uses_card or self._is_over:
            return
        figures = self._allocator.read()
        is_higher = figures.allocated_peak_bytes > self._shown_peak_bytes
        is_shown = len(self._told_marks) < _MAX_MARKS and (step < _NUM_STEPS_IN_FULL or is_higher)
        if is_shown:
            self._shown_peak_bytes = figures.allocated_peak_bytes
            self._told_marks.append({"part": part, "step": step, **asdict(figures)})
        if is_shown or time.monotonic() >= self._next_write_s:
            self._write()

    def _end_if_enough(self, num_steps: int) -> None:
        if self._stop_after is None or num_steps < self._stop_after:
            return
        if not self._has_stopped:
            self._has_stopped = True
            self._write()
            # What a script does on its way out, such as saving, is not part of the steps that were asked for.
            self._is_over = True
        raise SystemExit(0)

    def _end(self, ending: ProcessEnd) -> None:
        if ending.kind == BY_EXEC:
            if self._uses_card and self._ending is None:
                self._add_mark(REST, self._parts.num_steps)
                self._write(
                    ending
                )  # it is kept nowhere else: where there is no such program, this one goes on
            return
        if self._values is not None:
            leave(self._values)
        if not self._uses_card:
            self._tell_if_hidden()
            return
        if self._ending is not None:
            return
        self._add_mark(REST, self._parts.num_steps)
        self._ending = ending
        self._write()
        if compiles_nothing():
            note = (
                f"torch.compile compiled nothing in process {os.getpid()} with torch {torch.__version__}: "
                "its figures are of eager execution"
            )
            (self._reports / f"{self._name}-compile.problem").write_text(note)

    def _tell_if_hidden(self) -> None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible != self._visible:
            (self._reports / f"{self._name}.visible").write_text(str(visible))

    def _write(self, ending: ProcessEnd | None = None) -> None:
        ending = ending or self._ending
        begun_s = time.monotonic()
        figures = self._allocator.latest if self._is_over else self._allocator.read()
        if self._card is not None and not self._is_over:
            self._used_peak_bytes = _used_peak_bytes(self._card)
        report = {
            "pid": os.getpid(),
            "command": list(getattr(sys, "orig_argv", sys.argv)),
            "versions": _versions(),
            "cuda": torch.version.cuda,
            **asdict(figures),
            "device_used_bytes": self._used_peak_bytes,
            "device_uuid": _uuid(),
            "num_steps": self._parts.num_steps,
            "marks": self._told_marks,
            "out_of_memory": self._out_of_memory,
            "has_stopped": self._has_stopped,
            "ending": None if ending is None else asdict(ending),
            "reads": None if self._values is None else _reads(self._values),
        }
        self._store(json.dumps(report))
        ended_s = time.monotonic()
        self._next_write_s = ended_s + (ended_s - begun_s) / _MAX_WRITING

    def _store(self, text: str) -> None:
        """Write it whole or not at all; a full disk is told once, and the script goes on."""
        try:
            replace_file(self._reports / f"{self._name}.json", text, is_durable=False)
        except OSError as error:
            if not self._cannot_store:
                self._cannot_store = True
                sys.stderr.write(f"peakvram: cannot write what this process takes: {error}\n")


def _used_peak_bytes(card: StateLayout) -> int:
    """The most that this process held of the virtual card, its CUDA context with it."""
    own = next((process for process in card.processes if process.pid == os.getpid()), None)
    return 0 if own is None else int(own.used_peak_bytes[0])


def _uuid() -> str | None:
    """Of the card that this process calls the first; None where its torch does not tell (before 2.3)."""
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    return None if uuid is None else str(uuid)


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for name in _LIBRARIES:
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            versions[name] = version
    return versions


def _reads(values: TrueValues) -> dict[str, object]:
    reads = values.unknown_reads
    return {
        "decisions": reads.decisions.total(),
        "decision_sites": [f"{site} x{n}" for site, n in reads.decisions.most_common(_MAX_SITES)],
        "others": reads.others.total(),
        "other_sites": [f"{site} x{n}" for site, n in reads.others.most_common(_MAX_SITES)],
        "assumed": values.assumed.total(),
        "assumed_sites": [f"{site} x{n}" for site, n in values.assumed.most_common(_MAX_SITES)],
        "inexact": [f"{operation} x{n}" for operation, n in values.inexact.most_common(_MAX_SITES)],
    }
