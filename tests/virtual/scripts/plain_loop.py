# mypy: ignore-errors
"""The harness's plain loop, written out: full fine-tuning of a checkpoint, in bf16."""

import sys

import torch
import transformers
from transformers import AutoModelForCausalLM

DTYPE = "dtype" if int(transformers.__version__.partition(".")[0]) >= 5 else "torch_dtype"

directory, mask = sys.argv[1:]
torch.cuda.init()
model = AutoModelForCausalLM.from_pretrained(
    directory, **{DTYPE: torch.bfloat16}, device_map={"": 0}, attn_implementation="sdpa"
)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
model.config.use_cache = False
model.train()
model.gradient_checkpointing_enable({"use_reentrant": False})
decaying = [p for n, p in model.named_parameters() if "norm" not in n]
others = [p for n, p in model.named_parameters() if "norm" in n]
optimizer = torch.optim.AdamW([{"params": decaying}, {"params": others, "weight_decay": 0.0}])
for step in range(3):
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(model.config.vocab_size, (2, 256), generator=generator)
    batch = {"input_ids": ids, "labels": ids.clone()}
    if mask == "full":
        batch["attention_mask"] = torch.ones_like(ids)
    batch = {name: tensor.to("cuda") for name, tensor in batch.items()}
    outputs = model(**batch)
    loss = outputs.loss
    loss.backward()
    loss = outputs = None
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    model.zero_grad()
    del batch
