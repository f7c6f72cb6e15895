"""Batches that are apart from each other, whatever lies between them."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of batch.

    Attributes:
        is_one_row: masks and attention are handled otherwise for a single row.
        is_round: attention pads a mask's rows where their length is no multiple of some number.
    """

    is_one_row: bool
    is_round: bool


def kind_of(batch_size: int, seq_len: int, *, multiple: int) -> Kind:
    """The kind of a batch.

    Args:
        batch_size: rows.
        seq_len: tokens of a row.
        multiple: of which round lengths are one; 1 where it is no matter.
    """
    return Kind(is_one_row=batch_size == 1, is_round=seq_len % multiple == 0)
