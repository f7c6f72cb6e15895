# mypy: ignore-errors
"""A step of a small model, its batch with no mask, an unused one, one of ones or a padded one.

Prints which attention ran.
"""

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
batch = {"input_ids": ids, "labels": ids}
if sys.argv[1] != "none":
    batch["attention_mask"] = mask.to("cuda")
given = {
    name: tensor for name, tensor in batch.items() if sys.argv[1] != "unused" or name != "attention_mask"
}
with Attention() as seen:
    model(**given).loss.backward()
print(*sorted(seen.names))
