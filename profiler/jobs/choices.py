"""What a job may choose among: each kind of choice, and its words."""

from __future__ import annotations

from enum import StrEnum


class Weights(StrEnum):
    """Where the weights come from: `random` ones follow the model's config and need no download."""

    RANDOM = "random"
    PRETRAINED = "pretrained"


class Task(StrEnum):
    """What a model is trained for, by the auto class of transformers that is taken for it."""

    CAUSAL_LM = "causal-lm"
    SEQUENCE_CLASSIFICATION = "sequence-classification"
    TOKEN_CLASSIFICATION = "token-classification"
    SEQ2SEQ_LM = "seq2seq-lm"
    IMAGE_TEXT_TO_TEXT = "image-text-to-text"


class Precision(StrEnum):
    """The type of the weights and the computation.

    `-amp` is float32 weights under autocast, `-autocast` 16-bit weights under autocast of the same type, as
    `Trainer(bf16=True)` trains a model that was loaded in bfloat16.
    """

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    BF16_AMP = "bf16-amp"
    FP16_AMP = "fp16-amp"
    BF16_AUTOCAST = "bf16-autocast"
    FP16_AUTOCAST = "fp16-autocast"


class Optimizer(StrEnum):
    """The optimizer, by transformers' own `optim` name."""

    ADAMW_TORCH = "adamw_torch"
    ADAMW_TORCH_FUSED = "adamw_torch_fused"
    ADAMW_BNB_8BIT = "adamw_bnb_8bit"
    PAGED_ADAMW_8BIT = "paged_adamw_8bit"
    PAGED_ADAMW_32BIT = "paged_adamw_32bit"
    SGD = "sgd"
    ADAFACTOR = "adafactor"


class Attention(StrEnum):
    """The attention implementation, by transformers' own `attn_implementation` name."""

    EAGER = "eager"
    SDPA = "sdpa"
    FLASH_ATTENTION_2 = "flash_attention_2"


class AttentionMask(StrEnum):
    """The mask a batch carries.

    `none`: none is passed. `full`: all ones, as collators pass it for rows of one length. `padded`: the
    last quarter of every row but the first is padding (of the only row, in a batch of one). `packed`: none is
    passed; the rows follow each other in one, whose position ids begin anew with each, as transformers'
    `DataCollatorWithFlattening` makes it.
    """

    NONE = "none"
    FULL = "full"
    PADDED = "padded"
    PACKED = "packed"


class Loss(StrEnum):
    """How the loss comes from the last hidden states.

    `full`: the model's own, from the logits of all tokens. `chunked`: that of trl's `SFTTrainer`
    (`add_fused_lm_head` of trl 1.16): logits come and go in tiles of some tokens and words.
    """

    FULL = "full"
    CHUNKED = "chunked"


class Loop(StrEnum):
    """Whose training loop is followed.

    `plain`: the one written out by hand, `outputs = model(**batch); outputs.loss.backward()`, where the
    logits live until the backward pass is over. `trainer`: transformers' `Trainer`, which drops them before.
    """

    PLAIN = "plain"
    TRAINER = "trainer"


class Quant(StrEnum):
    """The 4-bit data type of bitsandbytes."""

    NF4 = "nf4"
    FP4 = "fp4"


class InferenceQuant(StrEnum):
    """What the weights are quantized to where nothing is trained: 8 or 4 bits of bitsandbytes, or not."""

    NONE = "none"
    INT8 = "int8"
    NF4 = "nf4"
    FP4 = "fp4"


class ComputeDtype(StrEnum):
    """The type 4-bit weights are dequantized to for a matrix product."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
