# mypy: ignore-errors
"""A step of a small model with no mask, a mask of ones or a padded one; prints which attention ran."""

import sys

import torch
from small import a_model
from torch.utils._python_dispatch import TorchDispatchMode


class Attention(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "scaled_dot_product" in func._schema.name:
            self.names.add(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


model = a_model(max_position_embeddings=4096)
mask = torch.ones(2, 2048, dtype=torch.long)
if sys.argv[1] == "padded":
    mask[0, :100] = 0
ids = torch.full((2, 2048), 7).to("cuda")
given = {} if sys.argv[1] == "none" else {"attention_mask": mask.to("cuda")}
with Attention() as seen:
    model(input_ids=ids, labels=ids, **given).loss.backward()
print(*sorted(seen.names))
