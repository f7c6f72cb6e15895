"""Where a router of a mixture of experts is taken to send tokens, as its scores are unknown."""

from __future__ import annotations

from enum import StrEnum


class Routing(StrEnum):
    """Evenly over the experts, or all tokens to the same ones."""

    EVEN = "even"
    WORST = "worst"
