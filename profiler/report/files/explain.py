"""Which files an explained run is written as: its page, its figures, and torch's own snapshot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.files import check_directory, write_file
from profiler.report.page.explain import explanation_page

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.explain.effects import Effect
    from profiler.explain.run import ExplainedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationFiles:
    """Where the files go.

    Attributes:
        html: receives the page; None for none.
        snapshot: receives torch's own snapshot, which the run itself writes; None for none.
        out: a directory that receives the page and the figures as JSON; None for none.
    """

    html: Path | None
    snapshot: Path | None
    out: Path | None

    def check(self) -> None:
        """Finds out before the job is run what cannot be written."""
        for path in (*self._pages(), *([self.snapshot] if self.snapshot else [])):
            check_directory(path.parent)

    def write(self, run: ExplainedRun, effects: tuple[Effect, ...] | None) -> list[Path]:
        """Writes everything; what a run without an explanation does not have is left out."""
        written: list[Path] = []
        if self._pages() and run.explanation is not None:
            page = explanation_page(run, effects)
            for path in self._pages():
                write_file(path, page)
                written.append(path)
        if self.out is not None:
            tree = self.out / "explanation.json"
            write_file(tree, json.dumps(explanation_tree(run, effects), indent=2) + "\n")
            written.append(tree)
        if self.snapshot is not None and self.snapshot.is_file():
            written.append(self.snapshot)
        return written

    def _pages(self) -> list[Path]:
        return [path for path in (self.html, self.out / "explanation.html" if self.out else None) if path]


def explanation_tree(run: ExplainedRun, effects: tuple[Effect, ...] | None) -> dict[str, object]:
    """An explained run in plain data; `effects` is None if no change was tried."""
    return {
        "record": run.record.model_dump(mode="json"),
        "explanation": run.explanation.model_dump(mode="json") if run.explanation else None,
        "changes": None if effects is None else [effect.model_dump(mode="json") for effect in effects],
    }
