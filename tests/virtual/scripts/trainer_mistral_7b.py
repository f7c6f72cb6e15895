# mypy: ignore-errors
"""Full fine-tuning of Mistral-7B in bf16 with `Trainer`, as anybody would write it; random weights."""

from __future__ import annotations

import sys
import tempfile

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

BATCH_SIZE, SEQ_LEN = 4, 4096


class Tokens(torch.utils.data.Dataset):
    def __init__(self, vocab_size: int, mask: str, count: int) -> None:
        self.vocab_size, self.mask, self.count = vocab_size, mask, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(self.vocab_size, (SEQ_LEN,), generator=generator)
        row = {"input_ids": ids, "labels": ids.clone()}
        if self.mask != "none":
            row["attention_mask"] = torch.ones_like(ids)
        if self.mask == "padded":
            row["attention_mask"][: SEQ_LEN // 4] = 0
        return row


def main(mask: str = "ones", steps: str = "2") -> None:
    config = AutoConfig.for_model(
        "mistral",
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=32768,
        sliding_window=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
    )
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            output_dir=directory,
            per_device_train_batch_size=BATCH_SIZE,
            gradient_checkpointing=True,
            bf16=True,
            optim="adamw_torch",
            max_steps=int(steps),
            save_strategy="no",
            report_to=[],
        )
        rows = Tokens(config.vocab_size, mask, BATCH_SIZE * int(steps))
        Trainer(model=model, args=arguments, train_dataset=rows).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
