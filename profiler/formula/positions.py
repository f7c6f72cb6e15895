"""How many tokens a row may have: learned tables of positions end, rotations do not."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Table(NamedTuple):
    """A table of positions: what configs call its rows, and how many of them are no token's."""

    key: str = "max_position_embeddings"
    reserved: int = 0


_OF_ROBERTA = _Table(reserved=2)
"""RoBERTa counts from `padding_idx + 1`, which is 2 (transformers, `create_position_ids_from_input_ids`)."""
# BART's rows come on top of its two reserved ones (`BartLearnedPositionalEmbedding`): none is lost.
_TABLES: Mapping[str, _Table] = MappingProxyType(
    {
        **dict.fromkeys(("gpt2", "gpt_bigcode"), _Table(key="n_positions")),
        **dict.fromkeys(
            (
                *("gpt_neo", "opt", "bert", "distilbert", "electra", "albert", "mobilebert", "megatron-bert"),
                *("bart", "mbart", "plbart", "blenderbot", "blenderbot-small", "deberta-v2"),
                *("deberta", "rembert", "convbert"),
            ),
            _Table(),
        ),
        **dict.fromkeys(
            ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "mpnet"), _OF_ROBERTA
        ),
    }
)
"""Families with a table of positions."""


def num_positions(config: Mapping[str, object]) -> int | None:
    """Tokens that a model has learned positions for; None where they are computed, or not known."""
    table = _TABLES.get(str(config["model_type"]))
    if table is None or config.get("position_biased_input") is False:  # DeBERTa without a table
        return None
    rows = config.get(table.key)
    return rows - table.reserved if isinstance(rows, int) else None
