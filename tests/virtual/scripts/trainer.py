# mypy: ignore-errors
"""`Trainer` with most of what it does: bf16, checkpointing, accumulation, evaluation and saving."""

import sys

from small import Rows, a_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Trainer, TrainingArguments

words = Tokenizer(WordLevel({"<pad>": 0, "<unk>": 1}, unk_token="<unk>"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")
arguments = TrainingArguments(
    output_dir=sys.argv[1],
    optim=sys.argv[2] if len(sys.argv) > 2 else "adamw_torch",
    per_device_train_batch_size=2,
    per_device_eval_batch_size=4,
    gradient_accumulation_steps=2,
    gradient_checkpointing=True,
    bf16=True,
    max_steps=3,
    eval_strategy="steps",
    eval_steps=2,
    save_strategy="steps",
    save_steps=2,
    logging_steps=1,
    dataloader_num_workers=2,
    report_to=[],
)
trainer = Trainer(
    model=a_model(),
    args=arguments,
    train_dataset=Rows(seq_len=None),
    eval_dataset=Rows(8),
    data_collator=DataCollatorForSeq2Seq(tokenizer),
)
trainer.train()
print(trainer.evaluate())
