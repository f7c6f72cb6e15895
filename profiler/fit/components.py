"""Which term of a formula is wrong: its bytes beside those of the tensors themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from profiler.records.schema import Components, PhaseName, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from profiler.fit.case import Case
    from profiler.fit.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class TermError:
    """How far terms are from what was counted of the tensors they stand for.

    Attributes:
        component: what was counted.
        terms: the formula's terms for it, added up where they are largest.
        num_jobs: how many jobs have such tensors.
        median: the median of the absolute difference, relative to what was counted.
        bias: the median difference, relative to what was counted; below 0 the terms are too small.
        of_peak: the median of the absolute difference, relative to the peak of allocated memory.
    """

    component: str
    terms: tuple[str, ...]
    num_jobs: int
    median: float
    bias: float
    of_peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A component, the names that formulas have for it, and when it was counted.

    Attributes:
        name: what to call it.
        terms: names of terms that stand for it.
        phase: it was counted at the end of this phase, which has all of it.
        read: its bytes.
        unless: a formula that has such a term draws its lines elsewhere, and is not compared.
    """

    name: str
    terms: frozenset[str]
    phase: PhaseName
    read: Callable[[Components], int]
    unless: frozenset[str] = frozenset()


_COUNTED: Final = (
    _Counted(
        name="weights",
        terms=frozenset({"weights", "model", "static", "quantization_state"}),
        phase=PhaseName.OPTIMIZER,
        read=lambda counted: counted.weights_bytes + counted.quantization_state_bytes,
    ),
    _Counted(
        name="adapters",
        terms=frozenset({"adapters"}),
        phase=PhaseName.OPTIMIZER,
        read=lambda counted: counted.adapter_bytes,
    ),
    _Counted(
        name="gradients",
        terms=frozenset({"gradients"}),
        phase=PhaseName.BACKWARD,
        read=lambda counted: counted.gradients_bytes,
    ),
    _Counted(
        name="optimizer state",
        terms=frozenset({"optimizer", "optimizer_state"}),
        phase=PhaseName.STEP,
        read=lambda counted: counted.optimizer_bytes,
    ),
    _Counted(
        name="activations",
        terms=frozenset({"activations", "scores", "ends"}),
        phase=PhaseName.FORWARD,
        read=lambda counted: counted.activations_bytes,
        unless=frozenset({"logits_and_loss"}),  # it has the loss's temporaries, gone when this is counted
    ),
)


def term_errors(case: Case, sample: Sample) -> tuple[TermError, ...]:
    """The errors of those terms whose tensors were counted, at the end of the phase that has all of them."""
    errors = (_term_error(case, sample, counted) for counted in _COUNTED)
    return tuple(error for error in errors if error is not None)


def _term_error(case: Case, sample: Sample, counted: _Counted) -> TermError | None:
    terms = [name for name in case.evaluated.terms if name in counted.terms]
    spoken = case.positions[case.is_finished]
    actual = np.array([_count(sample.records[at], counted) for at in spoken], dtype=np.int64)
    rows = actual > 0
    if not terms or not rows.any() or counted.unless & set(case.evaluated.terms):
        return None
    said, peak = _largest(case, terms)[case.is_finished], case.allocated_bytes[case.is_finished]
    errors = said[rows] / actual[rows] - 1
    return TermError(
        component=counted.name,
        terms=tuple(terms),
        num_jobs=int(rows.sum()),
        median=float(np.median(np.abs(errors))),
        bias=float(np.median(errors)),
        of_peak=float(np.median(np.abs(said - actual)[rows] / peak[rows])),
    )


def _largest(case: Case, terms: list[str]) -> NDArray[np.int64]:
    columns = [case.evaluated.terms.index(name) for name in terms]
    largest: NDArray[np.int64] = case.evaluated.term_bytes[:, :, columns].sum(axis=2).max(axis=1)
    return largest


def _count(record: Record, counted: _Counted) -> int:
    """The component at the end of the last such phase; 0 where there was none, or nothing was counted."""
    ends = [phase.components for phase in record.phases if phase.name is counted.phase]
    return counted.read(ends[-1]) if ends and ends[-1] is not None else 0
