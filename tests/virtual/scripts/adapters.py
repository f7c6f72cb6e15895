# mypy: ignore-errors
"""peft's LoRA, DoRA, LoRA on 4-bit and on 8-bit weights, in a plain loop."""

import sys
import tempfile

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from small import Rows, a_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

method = sys.argv[1]
if method in ("qlora", "int8"):
    quantization = (
        BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        if method == "qlora"
        else BitsAndBytesConfig(load_in_8bit=True)
    )
    with tempfile.TemporaryDirectory() as directory:
        a_model(device="cpu").save_pretrained(directory)
        model = AutoModelForCausalLM.from_pretrained(
            directory, quantization_config=quantization, device_map={"": 0}
        )
    model = prepare_model_for_kbit_training(model)
else:
    model = a_model()
model = get_peft_model(
    model,
    LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear", use_dora=method == "dora"),
)
optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
rows = Rows()
for step in range(2):
    batch = {name: torch.tensor([rows[step][name]] * 2, device="cuda") for name in rows[0]}
    loss = model(**batch).loss
    loss.backward()
    print(step, loss.item(), torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
    optimizer.step()
    optimizer.zero_grad()
