# mypy: ignore-errors
"""What the scripts beside this one share: a small model from its config, and rows of tokens."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

DTYPE = "dtype" if int(transformers.__version__.partition(".")[0]) >= 5 else "torch_dtype"

VOCAB_SIZE = 512
SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}


def a_model(
    family: str = "llama", *, device: str = "cuda", dtype: Any = torch.bfloat16, **changes: Any
) -> Any:
    config = AutoConfig.for_model(family, **{**SHAPE, **changes})
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, **{DTYPE: dtype})


class Rows(torch.utils.data.Dataset):
    """Rows of one length, or of lengths from 65 to 256 tokens, as lists."""

    def __init__(self, count: int = 16, *, seq_len: int | None = 256) -> None:
        self.count, self.seq_len = count, seq_len

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        length = self.seq_len or 65 + 71 * index % 192
        ids = [(7 * index + 3 * place) % (VOCAB_SIZE - 4) + 4 for place in range(length)]
        return {"input_ids": ids, "labels": ids, "attention_mask": [1] * length}
