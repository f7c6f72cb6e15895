"""What each flag of a command is called, takes and says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Model: TypeAlias = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="A preset (`peakvram models`), a Hub id or a local directory."),
]
Config: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Read the job from a YAML file; flags change it."),
]
Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set any key of the job, such as method.rank=8. Repeatable."
    ),
]
Out: TypeAlias = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where results go; records in DIR/records.")
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", metavar="", help="Print JSON on stdout instead of tables.")
]

Weights: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="random (from the config, nothing is downloaded) or pretrained (default random)"
    ),
]
Revision: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Branch, tag or commit of a Hub model."),
]
Attention: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="eager, sdpa or flash_attention_2 (default sdpa)"),
]
AttentionMask: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="KIND", help="What a batch carries: none, full (all ones) or padded (default full)"),
]
Loop: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="plain (logits live through the backward pass) or trainer, which drops them (default plain)",
    ),
]

Method: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="full, lora, qlora, int8-lora or inference (default qlora)"),
]
Rank: TypeAlias = Annotated[str | None, typer.Option(metavar="R", help="Rank of the adapters (default 16)")]
Alpha: TypeAlias = Annotated[str | None, typer.Option(metavar="A", help="Scale of the adapters (default 32)")]
Dropout: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="P", help="Dropout before the adapters (default 0.0)"),
]
Targets: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Modules with adapters: all-linear, or a list such as q_proj,v_proj (default all-linear)",
    ),
]
Quant: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="4-bit type of the weights: nf4 or fp4 (default nf4); inference also takes none, its default, "
        "and int8",
    ),
]
Dora: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--dora/--no-dora",
        help="Train the weights' magnitudes too, as DoRA does (default off)",
        metavar="",
        show_default=False,
    ),
]
RsLora: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--rslora/--no-rslora",
        help="Scale adapters by the root of their rank, as rsLoRA does (default off)",
        metavar="",
        show_default=False,
    ),
]
TrlCasting: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--trl-casting/--no-trl-casting",
        help="Cast a prepared 4-bit model as trl's SFTTrainer(bf16=True) does (default off)",
        metavar="",
        show_default=False,
    ),
]
NewTokens: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="N", help="Tokens that inference generates after the prompt (default 32)"),
]
DoubleQuant: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--double-quant/--no-double-quant",
        help="Quantize the quantization constants too (default on)",
        metavar="",
        show_default=False,
    ),
]
KbitPrepare: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--kbit-prepare/--no-kbit-prepare",
        help="Call peft's prepare_model_for_kbit_training (default on)",
        metavar="",
        show_default=False,
    ),
]
ComputeDtype: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="What 4-bit weights are multiplied as: bfloat16, float16 or float32 (default bfloat16)",
    ),
]

BatchSize: TypeAlias = Annotated[str | None, typer.Option(metavar="N", help="Rows a step (default 1)")]
SeqLen: TypeAlias = Annotated[
    str | None, typer.Option(metavar="N", help="Tokens a row, or of inference's prompt (default 2048)")
]
Checkpointing: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--gradient-checkpointing/--no-gradient-checkpointing",
        help="Recompute activations in backward (default on)",
        metavar="",
        show_default=False,
    ),
]
Reentrant: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--reentrant/--no-reentrant",
        help="Use torch's older, reentrant checkpointing (default off)",
        metavar="",
        show_default=False,
    ),
]
Optimizer: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A name of transformers: adamw_torch, adamw_torch_fused, adamw_bnb_8bit, paged_adamw_8bit, "
        "paged_adamw_32bit, sgd or adafactor (default adamw_torch)",
    ),
]
Precision: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="fp32, bf16, fp16; float32 weights under autocast: bf16-amp, fp16-amp; 16-bit ones under it: "
        "bf16-autocast, fp16-autocast (default bf16)",
    ),
]
Steps: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="N", help="Training steps to run (default 3)"),
]

Gpu: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="auto, real, real:INDEX, or a card of `peakvram gpus`, which is then virtual (default auto)",
    ),
]
GpuMemory: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Capacity of the virtual card, such as 2TiB, in place of its own."),
]
AllocConf: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="CONF", help="PYTORCH_ALLOC_CONF of the job, key:value,..."),
]
AllowBusy: TypeAlias = Annotated[
    bool,
    typer.Option("--allow-busy", metavar="", help="Run on a real card that others use."),
]
Timeout: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SECONDS", help="Stop the job after this time."),
]

SweepFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A sweep file (docs/sweeps.md), or the name of a shipped one.",
        show_default=False,
    ),
]
SweepSet: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any key of every job, such as steps=2; a list takes an axis's place. Repeatable.",
    ),
]
SweepOut: TypeAlias = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The study; records in DIR/records (default results/NAME)"),
]
StudyDirectory: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A study: what `peakvram sweep` has written.", show_default=False),
]
Rerun: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="WHICH", help="Run stored jobs again: failed, oom (those out of memory) or all."),
]
Limit: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Run at most so many jobs this time.")
]
FailFast: TypeAlias = Annotated[
    bool, typer.Option("--fail-fast", metavar="", help="Stop at the first job that fails.")
]
Prune: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--prune/--no-prune",
        metavar="",
        help="Infer that a job runs out of memory from a smaller one that did (default on)",
        show_default=False,
    ),
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Virtual jobs at a time (default: one a core)"),
]
