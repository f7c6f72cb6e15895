from __future__ import annotations

import pytest

from profiler.formula.positions import num_positions


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),  # two rows are no token's
        ({"model_type": "bart", "max_position_embeddings": 1024}, 1024),  # two more are on top
        ({"model_type": "deberta-v2", "max_position_embeddings": 512}, 512),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512, "position_biased_input": False}, None),
        ({"model_type": "llama", "max_position_embeddings": 4096}, None),  # computed
        ({"model_type": "bert"}, None),  # its class knows, the config does not say
    ],
    ids=str,
)
def test_a_row_is_as_long_as_a_learned_table_has_room_for(
    config: dict[str, object], limit: int | None
) -> None:
    assert num_positions(config) == limit
