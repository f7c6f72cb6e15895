# mypy: ignore-errors
"""TRL's `SFTTrainer` with padding, with packing, or on completions alone."""

import sys

from datasets import Dataset
from small import VOCAB_SIZE, a_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

directory, kind = sys.argv[1:]
names = {"<pad>": 0, "<unk>": 1, "</s>": 2, **{f"w{i}": i for i in range(3, VOCAB_SIZE)}}
words = Tokenizer(WordLevel(names, unk_token="<unk>"))
words.pre_tokenizer = Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
)


def text(start: int, count: int) -> str:
    return " ".join(f"w{3 + (start + place) % (VOCAB_SIZE - 3)}" for place in range(count))


# Called `max_length` from trl 0.16 on.
LENGTH = "max_length" if hasattr(SFTConfig, "max_length") else "max_seq_length"

lengths = [40 + 37 * index % 150 for index in range(24)]
if kind == "completion":
    rows = [{"prompt": text(n, n // 2), "completion": " " + text(2 * n, n)} for n in lengths]
else:
    rows = [{"text": text(n, n)} for n in lengths]
arguments = SFTConfig(
    output_dir=directory,
    packing=kind == "packing",
    **{LENGTH: 256},
    per_device_train_batch_size=2,
    bf16=True,
    max_steps=2,
    save_strategy="no",
    report_to=[],
)
trainer = SFTTrainer(
    model=a_model(),
    args=arguments,
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
)
trainer.train()
