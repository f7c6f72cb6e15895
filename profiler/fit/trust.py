"""What happens to people who believe an estimate: do they run out of memory, or pay for too large a card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.hardware.catalogue import load_catalogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from profiler.fit.case import Case
    from profiler.fit.solve import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What came of believing an estimate.

    Each finished job gets the smallest card of the catalogue that the estimate says is enough. It runs out of
    memory there if the card holds less than the job's device use, which is what it was on its own card with
    that card's context in place of its own. A job for which no card is enough counts nowhere.

    Attributes:
        num_jobs: how many jobs got a card.
        out_of_memory: the share of them that run out of memory on it.
        too_large: the share for which a smaller card would have been enough.
        num_failed: how many jobs ran out of memory on the cards of the records.
        let_through: the share of them that the estimate says fits that card.
    """

    num_jobs: int
    out_of_memory: float
    too_large: float
    num_failed: int
    let_through: float


def trust(case: Case, estimates: Floats, *, has_context: bool) -> Trust:
    """What comes of believing estimates of the jobs of a case.

    Args:
        case: the jobs and their records.
        estimates: bytes, a record; NaN where there is none.
        has_context: whether they count the CUDA context of the record's card; else they are taken to say all.
    """
    cards = sorted(load_catalogue().values(), key=lambda card: (card.total_bytes, card.context_bytes))
    totals = np.array([card.total_bytes for card in cards])
    contexts = np.array([card.context_bytes for card in cards])
    has_estimate = np.isfinite(estimates)
    rows = has_estimate & case.is_finished & case.tells_of_device
    need = (case.device_bytes - case.context_bytes)[rows, None] + contexts
    believed = estimates[rows, None] + has_context * (contexts - case.context_bytes[rows, None])
    bought, enough = _first(believed <= totals), _first(need <= totals)
    has_card = bought < len(cards)
    failed = has_estimate & ~case.is_finished
    return Trust(
        num_jobs=int(has_card.sum()),
        out_of_memory=_share(~(need <= totals)[has_card, bought[has_card]]),
        too_large=_share((bought > enough)[has_card]),
        num_failed=int(failed.sum()),
        let_through=_share(estimates[failed] <= case.total_bytes[failed]),
    )


def _first(is_enough: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[num_jobs], the smallest card that is enough; the number of cards where none is."""
    first: NDArray[np.int64] = np.where(is_enough.any(axis=1), is_enough.argmax(axis=1), is_enough.shape[1])
    return first


def _share(holds: NDArray[np.bool_]) -> float:
    return float(holds.mean()) if len(holds) else float("nan")
