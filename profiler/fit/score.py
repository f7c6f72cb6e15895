"""How good predictions are: errors in percentiles, bias, and how often an interval held the figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from profiler.fit.solve import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Errors of predictions, relative to the figures: 0.1 is 10 % too much.

    Attributes:
        num_jobs: how many records were predicted.
        median: the median of the absolute error.
        p90: its 90th percentile.
        p95: its 95th percentile.
        bias: the mean error; below 0 the predictions are too small.
        coverage: the share of figures within their 90 % intervals; None where there are no intervals.
    """

    num_jobs: int
    median: float
    p90: float
    p95: float
    bias: float
    coverage: float | None = None


def score(
    predicted: Floats, actual: NDArray[np.int64], *, is_within: NDArray[np.bool_] | None = None
) -> Score:
    """The score of predictions of some records, of which there must be one at least."""
    errors = predicted / actual - 1
    median, p90, p95 = np.quantile(np.abs(errors), [0.5, 0.9, 0.95])
    return Score(
        num_jobs=len(errors),
        median=float(median),
        p90=float(p90),
        p95=float(p95),
        bias=float(errors.mean()),
        coverage=None if is_within is None else float(is_within.mean()),
    )
