"""What was done, counted by kind."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.faults.kinds import Kind
    from tests.faults.lives import Life

WRONGS = {
    "lost": ("lost", "unreadable"),
    "double": ("double",),
    "orphans": ("orphan",),
    "tracebacks": ("traceback",),
    "leftovers": ("leftover", "left in the study"),
}
"""The columns of what must not be, by how such a finding begins; `others` for the rest."""
OTHERS = "others"


@dataclass
class Tally:
    """Counts of faults and findings."""

    seed: int
    num_lives: int = 0
    num_cold: int = 0
    faults: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    at_work: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _lives: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def num_faults(self) -> int:
        return sum(map(Counter.total, self.faults.values()))

    @property
    def num_wrong(self) -> int:
        return sum(map(Counter.total, self.wrong.values()))

    def next_of(self, kinds: Sequence[Kind]) -> Kind:
        """The kind that is furthest behind its share."""
        return min(kinds, key=lambda kind: (self.faults[kind.name].total() + self._idle(kind)) / kind.share)

    def next_command(self, kind: Kind, shares: Mapping[str, int]) -> str:
        """The command that this kind has been done to least, for its share."""
        return min(kind.commands, key=lambda name: self._lives[kind.name][name] / shares[name])

    def add(self, kind: Kind, life: Life, *, is_warm: bool) -> None:
        """One more life."""
        self.num_lives += 1
        self.num_cold += not is_warm
        self._lives[kind.name][life.command] += 1
        self.faults[kind.name][life.command] += len(life.faults)
        self.at_work[kind.name] += life.num_at_work
        for found in life.wrong:
            self.wrong[kind.name][_column(found)] += 1

    def _idle(self, kind: Kind) -> int:
        """So that a kind that finds nobody to hurt is not asked for ever."""
        return self._lives[kind.name].total() // 10

    def to_text(self) -> str:
        """A table in Markdown."""
        columns = [*WRONGS, OTHERS]
        header = ["kind", "faults", "while workers ran", "sweep", "exec", "explain", "pack", *columns]
        rows = [self._row(name, columns) for name in self.faults if self.faults[name].total()]
        sums = ["all", *(str(sum(int(row[i]) for row in rows)) for i in range(1, len(header)))]
        lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows, sums]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        started = f"{self.num_lives} commands, {self.num_cold} of them started as a user does"
        return f"{table}\n\nseed {self.seed}, {started}"

    def to_json(self) -> str:
        """The same as JSON."""
        kinds = {
            name: {
                "faults": counted.total(),
                "while_workers_ran": self.at_work[name],
                "commands": dict(counted),
                "broken": dict(self.wrong[name]),
            }
            for name, counted in self.faults.items()
        }
        return json.dumps({"seed": self.seed, "num_faults": self.num_faults, "kinds": kinds})

    def _row(self, name: str, columns: Sequence[str]) -> list[str]:
        counted = self.faults[name]
        by_command = [str(counted[command]) for command in ("sweep", "exec", "explain", "pack")]
        wrong = [str(self.wrong[name][column]) for column in columns]
        return [name, str(counted.total()), str(self.at_work[name]), *by_command, *wrong]


def _column(found: str) -> str:
    words = found.removeprefix("next run: ")
    return next((column for column, starts in WRONGS.items() if words.startswith(tuple(starts))), OTHERS)
