"""Derived formulas made by hand, and the same events as the allocator's replay takes them."""

from __future__ import annotations

import gzip
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from profiler.allocator.events import Action, ReplayEvent
from profiler.formula.derived.file import DerivedFile, DerivedOn, Phase, Regime, Seen
from profiler.formula.derived.program import Free, SizedRequest, write_body
from profiler.records.schema import PhaseName
from profiler.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiler.formula.derived.program import Symbol

WEIGHT, ROWS, LOSS, WORKSPACE = range(4)
SIZES = (str(8 * MIB), "2048*b*s", "4*b*s + 100", "workspace")
OWNERS = (
    ("weights", "layers.*"),
    ("saved activations", "layers.*"),
    ("logits and loss", "loss"),
    ("workspace", "cuBLAS"),
    ("gradients", "layers.*"),
    ("optimizer", "layers.*"),
    ("temporaries", "layers.*"),
)
PART = {part: number for number, (part, _) in enumerate(OWNERS)}


class Tape:
    """Writes a run down twice: as bodies, and as events with their names."""

    def __init__(self) -> None:
        self.phases: list[tuple[PhaseName, int | None, str]] = []
        self.events: list[tuple[int, int | None]] = []
        self._symbols: list[Symbol] = []
        self._numbers: dict[str, int] = {}
        self._num_requests = 0

    def ask(self, name: str, size: int, owner: int) -> None:
        """Requests a block of one of the file's sizes."""
        self._symbols.append(SizedRequest(size, owner))
        self.events.append((self._num_requests, size))
        self._numbers[name] = self._num_requests
        self._num_requests += 1

    def free(self, *names: str) -> None:
        """Frees blocks by their names."""
        for name in names:
            number = self._numbers.pop(name)
            self._symbols.append(Free(self._num_requests - number))
            self.events.append((number, None))

    def empty(self) -> None:
        """Empties the cache."""
        self._symbols.append(None)
        self.events.append((-1, None))

    def end(self, name: PhaseName, step: int | None = None) -> None:
        """All since the last phase belongs to this one."""
        self.phases.append((name, step, write_body(self._symbols)))
        self._symbols = []

    def replay_events(self, sizes: list[int]) -> Iterator[ReplayEvent]:
        """The same for `profiler.allocator.replay`."""
        for number, size in self.events:
            if size is not None:
                yield ReplayEvent(Action.ALLOC, number, sizes[size])
            else:
                yield ReplayEvent(Action.EMPTY_CACHE) if number < 0 else ReplayEvent(Action.FREE, number)


def a_run(num_steps: int = 2) -> Tape:
    """Three matrices are trained: activations of two layers, gradients, and an optimizer with a state."""
    tape = Tape()
    tape.end(PhaseName.CONTEXT)
    for name in ("w0", "w1", "w2"):
        tape.ask(name, WEIGHT, PART["weights"])
    tape.end(PhaseName.LOAD)
    tape.ask("scratch", WEIGHT, PART["temporaries"])
    tape.free("scratch")
    tape.empty()
    tape.end(PhaseName.OPTIMIZER)
    for step in range(num_steps):
        if step == 0:
            tape.ask("workspace", WORKSPACE, PART["workspace"])
        tape.ask("a0", ROWS, PART["saved activations"])
        tape.ask("a1", ROWS, PART["saved activations"])
        tape.ask("loss", LOSS, PART["logits and loss"])
        tape.end(PhaseName.FORWARD, step)
        tape.ask("t", ROWS, PART["temporaries"])
        tape.ask("g0", WEIGHT, PART["gradients"])
        tape.free("t", "loss", "a1")
        tape.ask("g1", WEIGHT, PART["gradients"])
        tape.free("a0")
        tape.end(PhaseName.BACKWARD, step)
        if step == 0:
            tape.ask("m0", WEIGHT, PART["optimizer"])
            tape.ask("m1", WEIGHT, PART["optimizer"])
        tape.end(PhaseName.STEP, step)
        tape.free("g0", "g1")
        tape.end(PhaseName.ZERO_GRAD, step)
    return tape


def a_file(tape: Tape | None = None, **changes: Any) -> DerivedFile:
    """A formula of one regime, in which a tape's run happens."""
    phases = (tape or a_run()).phases
    bodies = tuple(dict.fromkeys(body for _, _, body in phases))
    values: dict[str, Any] = {
        "key": "0" * 16,
        "model": "llama-3.1-8b",
        "job": {},
        "versions": {"torch": "2.14.1"},
        "card": DerivedOn(id="rtx-4090", compute_capability="8.9", num_sms=128),
        "num_runs": 12,
        "checks": (),
        "seen": tuple(
            Seen(batch_size=batch_size, seq_len=seq_len, regime=0)
            for batch_size in (1, 2, 16)
            for seq_len in (64, 8192)
        ),
        "regimes": (
            Regime(
                phases=tuple(
                    Phase(name=name, step=step, body=bodies.index(body)) for name, step, body in phases
                )
            ),
        ),
        "sizes": SIZES,
        "owners": OWNERS,
        "bodies": bodies,
    }
    return DerivedFile.model_validate(values | changes)


def pack_text(path: Path, text: str | bytes) -> Path:
    """A compressed file with any text."""
    path.write_bytes(gzip.compress(text.encode() if isinstance(text, str) else text, 1))
    return path


@contextmanager
def quickly(limit_s: float = 20) -> Iterator[None]:
    """Not by the clock, but by the time of this process: others may keep the machine busy."""
    before = time.process_time()
    yield
    assert time.process_time() - before < limit_s
