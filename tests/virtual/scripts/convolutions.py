# mypy: ignore-errors
"""One layer of a Qwen3.5, a gated delta net with its convolution, from a config file; trained two steps."""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

DTYPE = "dtype" if int(transformers.__version__.partition(".")[0]) >= 5 else "torch_dtype"

fields = json.loads(Path(sys.argv[1]).read_text())
config = AutoConfig.for_model(fields.pop("model_type"), **fields)
text = config.get_text_config()
text.num_hidden_layers, text.vocab_size = 1, 1000
text.layer_types = text.layer_types[:1]
with torch.device("cuda"):
    model = AutoModelForCausalLM.from_config(config, **{DTYPE: torch.bfloat16})
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(2):
    ids = torch.randint(1000, (2, 300)).to("cuda")
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
