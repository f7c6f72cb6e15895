# mypy: ignore-errors
"""A small mixture of experts, trained two steps."""

import sys

import torch
from small import Rows, a_model

model = a_model(
    sys.argv[1],
    moe_intermediate_size=64,
    num_experts=8,
    num_local_experts=8,
    experts_implementation=sys.argv[2],
)
optimizer = torch.optim.AdamW(model.parameters())
rows = Rows()
for step in range(2):
    batch = {name: torch.tensor([rows[step][name]] * 2).to("cuda") for name in rows[0]}
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
