# mypy: ignore-errors
"""Mistral-7B trained by `Trainer` with checkpointing, as anybody would write it; the weights are not read.

    python mistral_7b.py --method lora --batch-size 8

The job of fms-acceleration's benchmark (`scripts/benchmarks`), whose peaks on a real A100 80GB are in
`measurements.csv`: rows of 4096 tokens, AdamW, LoRA of rank 16 on the attention, or the same on 4-bit weights
under autocast, as they are or as trl's `SFTTrainer` prepares them. It runs with transformers 4.45 and later.
SDPA stands in for FlashAttention-2.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

CONFIG = Path(__file__).parents[1] / "models" / "mistral-7b-v0.1-fms"
SEQ_LEN = 4096
SHARD_BYTES = 10_000_000_000
"""As large as the shards of the published checkpoint may be. How many there are changes QLoRA's figures."""
DTYPE = "dtype" if int(transformers.__version__.partition(".")[0]) >= 5 else "torch_dtype"


class Tokens(torch.utils.data.Dataset):
    """Rows of random tokens, with a mask of ones, a padded one or none."""

    def __init__(self, vocab_size, mask, count):
        """Makes `count` rows."""
        self.vocab_size, self.mask, self.count = vocab_size, mask, count

    def __len__(self):
        """How many rows there are."""
        return self.count

    def __getitem__(self, index):
        """One row, the same each time."""
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(self.vocab_size, (SEQ_LEN,), generator=generator)
        row = {"input_ids": ids, "labels": ids.clone()}
        if self.mask != "none":
            row["attention_mask"] = torch.ones_like(ids)
        if self.mask == "padded":
            row["attention_mask"][: SEQ_LEN // 4] = 0
        return row


def in_bf16(config):
    """The model with random weights, made on the card."""
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(config, **{DTYPE: torch.bfloat16})


def in_4_bits(config, directory):
    """The model from a checkpoint, quantized as it is loaded."""
    write_hollow_checkpoint(config, directory)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(
        directory, quantization_config=quantization, device_map={"": 0}, **{DTYPE: torch.bfloat16}
    )


def write_hollow_checkpoint(config, directory):
    """A checkpoint in shards that are all zeros and take no disk, on a file system with sparse files."""
    with torch.device("meta"):
        tensors = AutoModelForCausalLM.from_config(config, **{DTYPE: torch.bfloat16}).state_dict()
    shards = [[]]
    for name, tensor in tensors.items():
        if sum(t.nbytes for _, t in shards[-1]) + tensor.nbytes > SHARD_BYTES:
            shards.append([])
        shards[-1].append((name, tensor))
    places = {}
    for number, shard in enumerate(shards, start=1):
        path = directory / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_hollow_file(path, sorted(shard))
        places |= {name: path.name for name, _ in shard}
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places})
    )
    config.save_pretrained(directory)


def write_hollow_file(path, tensors):
    """One safetensors file of zeros."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors:
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def with_lora(model):
    """The model with the benchmark's adapters, which peft keeps in float32."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - full fine-tuning needs no peft

    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=16, lora_alpha=16, lora_dropout=0.1, target_modules=targets, bias="none"
    )
    adapted = get_peft_model(model, lora)
    adapted.enable_input_require_grads()
    return adapted


def as_trl_prepares_it(model):
    """LoRA on 4-bit weights with norms in float32, embeddings and output layer in bfloat16."""
    from peft import prepare_model_for_kbit_training  # noqa: PLC0415

    adapted = with_lora(prepare_model_for_kbit_training(model))
    for name, module in adapted.named_modules():
        is_embedding = any(part in name for part in ("lm_head", "embed_tokens"))
        if "norm" in name:
            module.to(torch.float32)
        elif is_embedding and hasattr(module, "weight") and module.weight.dtype == torch.float32:
            module.to(torch.bfloat16)
    return adapted


ADAPTATIONS = {
    "full": lambda model: model,
    "lora": with_lora,
    "qlora": with_lora,
    "trl-qlora": as_trl_prepares_it,
}


def main():
    """Train a few steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=list(ADAPTATIONS), default="full")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--mask", choices=["none", "ones", "padded"], default="ones")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    config = AutoConfig.from_pretrained(CONFIG)
    with tempfile.TemporaryDirectory() as directory:
        is_4bit = "qlora" in options.method
        model = in_4_bits(config, Path(directory)) if is_4bit else in_bf16(config)
        arguments = TrainingArguments(
            output_dir=directory,
            per_device_train_batch_size=options.batch_size,
            gradient_checkpointing=True,
            bf16=is_4bit,
            optim="adamw_torch",
            max_steps=options.steps,
            save_strategy="no",
            report_to=[],
        )
        rows = Tokens(config.vocab_size, options.mask, options.batch_size * options.steps)
        model = ADAPTATIONS[options.method](model)
        Trainer(model=model, args=arguments, train_dataset=rows).train()


if __name__ == "__main__":
    main()
