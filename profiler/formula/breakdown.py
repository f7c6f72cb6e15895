"""What a formula says: named terms of bytes at named instants, and which instant is the peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from profiler.jobs.choices import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

Quantity: TypeAlias = "int | NDArray[np.int64]"
"""A whole number of one job, or of many jobs side by side (one-dimensional, one element a job)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a batch is, of one job or of many that are alike in everything else."""

    batch_size: Quantity
    seq_len: Quantity

    @property
    def tokens(self) -> Quantity:
        """Tokens of a batch."""
        return self.batch_size * self.seq_len


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """One moment of a run and what memory holds then.

    Attributes:
        name: when it is, such as `forward end`; a formula that names no moment calls it `peak`.
        terms: bytes by term, none below 0, in the order a reader wants them; no byte is in two terms.
    """

    name: str
    terms: Mapping[str, Quantity]

    @property
    def total_bytes(self) -> Quantity:
        """The sum of the terms."""
        return sum(self.terms.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """What a formula says of a job: the peak is the largest of its instants."""

    instants: tuple[Instant, ...]

    @property
    def peak(self) -> Instant:
        """The largest instant of a single job; of equal ones the first."""
        return max(self.instants, key=lambda instant: cast("int", instant.total_bytes))

    @property
    def peak_bytes(self) -> Quantity:
        """The bytes of the largest instant, job by job."""
        return largest(*(instant.total_bytes for instant in self.instants))


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A formula as its author gives it.

    Attributes:
        id: its name on the command line.
        title: what it is, in a few words.
        source: who published it, and where: paper and equation, page or document.
        predicts: the figure its author means: bytes in tensors, or all that the card shows as used.
        terms: every term it may have, and what it is, with its equation.
        evaluate: the terms of a job. The job gives everything but batch size and length, which the
            shape gives in its place; it must not be read from the job.
        refusal: why it says nothing of a job that trains a causal language model and ends with its last step,
            or generates; None where it does. `refusal_of` answers for all jobs.
        is_of_whole_runs: whether it speaks of what comes after the last step too.
    """

    id: str
    title: str
    source: str
    predicts: str
    terms: Mapping[str, str]
    evaluate: Callable[[JobSpec, Architecture, Shape], Breakdown]
    refusal: Callable[[JobSpec, Architecture], str | None]
    is_of_whole_runs: bool = False


def refusal_of(formula: Formula, job: JobSpec, architecture: Architecture) -> str | None:
    """Why a formula says nothing of a job; None where it does."""
    if job.task is not Task.CAUSAL_LM:
        return f"it is of causal language models, not of {job.task}"
    if (job.eval_batches or job.save) and not formula.is_of_whole_runs:
        return f"it is of training, not of {'an evaluation' if job.eval_batches else 'saving'} after it"
    return formula.refusal(job, architecture)


def shape_of(job: JobSpec) -> Shape:
    """The shape of one job's batch."""
    return Shape(batch_size=job.batch_size, seq_len=job.seq_len)


def largest(*quantities: Quantity) -> Quantity:
    """The largest of some quantities, job by job."""
    if all(isinstance(quantity, int) for quantity in quantities):
        return max(cast("tuple[int, ...]", quantities))
    import numpy as np  # noqa: PLC0415 - a single estimate does without

    result = quantities[0]
    for quantity in quantities[1:]:
        result = cast("Quantity", np.maximum(result, quantity))
    return result


def select(holds: bool | NDArray[np.bool_], first: Quantity, second: Quantity) -> Quantity:
    """The first quantity for the jobs of which something holds, the second for the others."""
    if isinstance(holds, bool):
        return first if holds else second
    import numpy as np  # noqa: PLC0415 - as above

    return cast("Quantity", np.where(holds, first, second))


def round_up(quantity: Quantity, multiple: int) -> Quantity:
    """The next multiple at or above a quantity."""
    return -(-quantity // multiple) * multiple
