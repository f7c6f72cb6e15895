"""What was done, counted by kind."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.faults.kinds import Kind
    from tests.faults.lives import Life

COMMANDS = ("sweep", "exec", "explain", "pack")
WRONGS = {
    "lost": ("lost", "unreadable"),
    "double": ("double",),
    "orphans": ("orphan",),
    "tracebacks": ("traceback",),
    "leftovers": ("leftover", "left in the study"),
    "others": ("",),
}
"""The columns of what must not be, by how such a finding begins; the last one takes the rest."""
_AT_WORK, _LIVES, _COLD = "while workers ran", "commands", "cold"


@dataclass
class Tally:
    """Counts of faults and findings, by kind: of each command's faults, and of what went wrong."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _lives: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @classmethod
    def of(cls, parts: Iterable[str]) -> Tally:
        """The sum of what several saboteurs have told as JSON."""
        tally = cls()
        for part in parts:
            for name, counted in json.loads(part).items():
                tally.counts[name].update(counted)
        return tally

    @property
    def num_faults(self) -> int:
        """How many there were."""
        return sum(map(self._num_of, self.counts))

    @property
    def num_wrong(self) -> int:
        """How many findings."""
        return sum(counted[column] for counted in self.counts.values() for column in WRONGS)

    def next_of(self, kinds: Sequence[Kind]) -> Kind:
        """The kind that is furthest behind its share."""
        return min(kinds, key=lambda kind: (self._num_of(kind.name) + self._idle(kind)) / kind.share)

    def next_command(self, kind: Kind, shares: Mapping[str, int]) -> str:
        """The command that this kind has been done to least, for its share."""
        names = [name for name in kind.commands if name in shares]
        return min(names, key=lambda name: self._lives[kind.name][name] / shares[name])

    def add(self, kind: Kind, life: Life, *, is_warm: bool) -> None:
        """One more life."""
        self._lives[kind.name][life.command] += 1
        counted = self.counts[kind.name]
        counted[life.command] += len(life.faults)
        counted[_AT_WORK] += life.num_at_work
        counted[_LIVES] += 1
        counted[_COLD] += not is_warm
        counted.update(_column(found) for found in life.wrong)

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(self.counts)

    def to_text(self) -> str:
        """A table in Markdown."""
        header = ["kind", "faults", _AT_WORK, *COMMANDS, *WRONGS]
        rows = [self._row(name) for name in self.counts if self._num_of(name) or self.counts[name].total()]
        sums = [sum(row[1:][i] for row in rows) for i in range(len(header) - 1)]
        table = [header, ["---", *["--:"] * len(sums)], *rows, ["all", *sums]]
        lines = [
            f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else cell for cell in row)} |"
            for row in table
        ]
        num_lives, num_cold = (sum(c[name] for c in self.counts.values()) for name in (_LIVES, _COLD))
        return "\n".join([*lines, "", f"{num_lives} commands, {num_cold} of them started as a user does"])

    def _num_of(self, name: str) -> int:
        return sum(self.counts[name][command] for command in COMMANDS)

    def _idle(self, kind: Kind) -> int:
        """So that a kind that finds nobody to hurt is not asked for ever."""
        return self._lives[kind.name].total() // 10

    def _row(self, name: str) -> list[Any]:
        counted = self.counts[name]
        return [
            name,
            self._num_of(name),
            counted[_AT_WORK],
            *(counted[column] for column in (*COMMANDS, *WRONGS)),
        ]


def _column(found: str) -> str:
    words = found.removeprefix("next run: ")
    return next(column for column, starts in WRONGS.items() if words.startswith(starts))
