# mypy: ignore-errors
"""`generate()` with a KV cache, a padded prompt and an end-of-sequence token."""

import torch
from small import a_model

model = a_model().eval()
ids = torch.arange(4, 132, device="cuda").repeat(2, 1)
mask = torch.ones_like(ids)
mask[1, :32] = 0
out = model.generate(ids, attention_mask=mask, max_new_tokens=12, eos_token_id=2, pad_token_id=0)
print(tuple(out.shape))
