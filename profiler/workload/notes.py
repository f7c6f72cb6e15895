"""The notes on a job, told as it goes on: in Python alone, so that no figure moves.

No tensor is made, kept or read for them, and nothing is asked of the card.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from profiler.workload.calls import Calls, watched_calls
from profiler.workload.findings import Seen, find_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiler.jobs.job import JobSpec
    from profiler.measure.phases import Recorder


class Notes:
    """Finds the notes; each telling is of all there are, in place of the one before."""

    def __init__(
        self, spec: JobSpec, recorder: Recorder, on_notes: Callable[[tuple[str, ...]], None] | None
    ) -> None:
        """Nothing is known yet.

        Args:
            spec: the job.
            recorder: of its phases; it knows what the job holds.
            on_notes: told all notes; None where nobody reads them, who then need not be found.
        """
        self._spec = spec
        self._recorder = recorder
        self._on_notes = on_notes
        self._calls = Calls()

    @contextmanager
    def told_at_end(self) -> Iterator[None]:
        """Tells once this is over, however it ends: what ran out of memory has most to explain."""
        try:
            yield
        except Exception as error:
            if self._recorder.holdings.model is None:
                self._recorder.holdings.model = _model_in(error)
            raise
        finally:
            self.tell()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this lasts, calls of modules are remembered: of the first step; then tells."""
        if self._on_notes is None:
            yield
            return
        model = self._recorder.holdings.model
        assert model is not None, "it is loaded before it is run"
        with watched_calls(model, self._recorder, self._calls):
            yield
        self.tell()

    def tell(self) -> None:
        """Tells what is known by now; nothing before there is a model."""
        holdings = self._recorder.holdings
        if self._on_notes is None or holdings.model is None:
            return
        seen = Seen(
            spec=self._spec,
            model=holdings.model,
            calls=self._calls,
            readings=self._recorder.readings,
            optimizer=holdings.optimizer,
        )
        self._on_notes(tuple(find_notes(seen)))


def _model_in(error: BaseException) -> PreTrainedModel | None:
    """The model that was being loaded when an error was raised: a variable of one of its frames."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    values = (value for frame in frames for value in frame.f_locals.values())
    return next((value for value in values if isinstance(value, PreTrainedModel)), None)
