"""The judge of whether a job can run against the libraries that it speaks for, and against jobs that run."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profiler.errors import ConfigError, PeakvramError
from profiler.formula.configs import read_architecture
from profiler.formula.modules import modules_of
from profiler.formula.runnable import check_runnable
from profiler.jobs.alloc_conf import parse_alloc_conf
from profiler.jobs.alloc_settings import check_alloc_conf
from profiler.jobs.choices import Attention
from profiler.jobs.job import JobSpec
from profiler.jobs.model_classes import find_class
from profiler.jobs.targets import is_targeted
from tests.versions import needs, since
from tests.virtual.jobs import a_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.virtual.harness import WarmMachines

LLAMA: Mapping[str, object] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
FAMILIES: Mapping[str, Mapping[str, object]] = {
    **{name: {**LLAMA, "model_type": name} for name in ("llama", "mistral", "qwen2", "qwen3")},
    "gemma2": {**LLAMA, "model_type": "gemma2", "query_pre_attn_scalar": 16, "tie_word_embeddings": True},
    "phi": {**LLAMA, "model_type": "phi", "num_key_value_heads": 4},
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 96,
        "vocab_size": 256,
    },
    "mixtral": {**LLAMA, "model_type": "mixtral", **EXPERTS},
    "qwen3_moe": {**LLAMA, "model_type": "qwen3_moe", **EXPERTS, "mlp_only_layers": [1]},
    "qwen3_5_text": {
        **LLAMA,
        "model_type": "qwen3_5_text",
        "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_value_head_dim": 16,
        "linear_key_head_dim": 16,
        "linear_conv_kernel_dim": 4,
    },
}
JUDGED_SINCE = {"qwen3": "4.51", "mixtral": "5", "qwen3_moe": "5", "qwen3_5_text": "5"}
"""The transformers that the judge speaks for, by family: before 5 each expert has modules of its own."""
JUDGED = tuple(
    pytest.param(family, marks=needs(transformers=JUDGED_SINCE.get(family, "4"))) for family in FAMILIES
)
TARGETS = (
    *(
        "all-linear",
        "q_proj",
        "v_proj,q_proj",
        "self_attn.q_proj",
        "c_attn",
        "attn.c_proj",
        "h.1.attn.c_attn",
    ),
    *("q_prj", "all", "q_proj,c_attn", "q_proj,mlp", "mlp", "0", "model", "_proj", "proj", "elf_attn.q_proj"),
    *(
        "lm_head",
        "embed_tokens",
        "wte",
        "wpe",
        "norm",
        "input_layernorm",
        "model.layers.1.mlp.up_proj",
        "fc1",
    ),
    *("gate", "gate_proj", "down_proj", "gate_proj,up_proj", "experts", "w1", "w1,w3", "w2", "mlp.experts"),
    *("mlp.gate", "conv1d", "in_proj_a,out_proj", "linear_attn", "layers.0.self_attn.o_proj", "gate_up_proj"),
)


def write_model(directory: Path, family: str) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(FAMILIES[family]))
    return str(directory)


def real_modules(config: dict[str, Any]) -> dict[str, str]:
    """In the child: every module of a family's model, and what it is to peft."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    kinds = (
        ("linear", (torch.nn.Linear, Conv1D)),
        ("embedding", torch.nn.Embedding),
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    named = ((name, module) for name, module in model.named_modules() if name)
    return {
        name: next((kind for kind, classes in kinds if isinstance(module, classes)), "other")
        for name, module in named
    }


@pytest.mark.parametrize("family", JUDGED)
def test_modules_are_those_that_transformers_makes(family: str, virtual_gpu: WarmMachines) -> None:
    found = virtual_gpu("a100-80gb", real_modules, dict(FAMILIES[family]))
    assert {
        path: str(kind) for path, kind in modules_of(read_architecture(FAMILIES[family])).items()
    } == found


def peft_matches(pairs: list[tuple[str, list[str]]]) -> list[bool]:
    """In the child: what peft says of modules and targets."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    return [
        bool(check_target_module_exists(LoraConfig(target_modules=targets), path)) for path, targets in pairs
    ]


def test_targets_are_matched_as_peft_matches_them(virtual_gpu: WarmMachines) -> None:
    draw, names = random.Random(1), ["q", "proj", "q_proj", "0", "10", "attn", "self_attn", "mlp"]

    def a_path(most: int) -> str:
        return ".".join(draw.choices(names, k=draw.randint(1, most)))

    drawn = [(a_path(4), [a_path(3)]) for _ in range(2000)]
    found = virtual_gpu("a100-80gb", peft_matches, drawn)
    assert any(found)
    assert [is_targeted(path, targets) for path, targets in drawn] == found


def real_classes(attributes: list[str]) -> dict[str, list[bool]]:
    """In the child: what the class of every family says of itself."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    classes = {family: getattr(transformers, name, None) for family, name in NAMES.items()}
    return {
        family: [bool(getattr(one, attribute, False)) for attribute in attributes]
        for family, one in classes.items()
        if one is not None
    }


def test_families_have_what_their_classes_say(virtual_gpu: WarmMachines) -> None:
    attributes = ["_supports_sdpa", "supports_gradient_checkpointing"]
    found = virtual_gpu("a100-80gb", real_classes, attributes)
    own = {family: model for family in found if (model := find_class(family)) is not None}
    assert len(own) > 0.85 * len(found)
    assert own.keys() >= FAMILIES.keys() & found.keys()
    for family, model in own.items():
        assert [Attention.SDPA in model.attentions, model.has_checkpointing] == found[family], family


def torch_takes(confs: list[str]) -> list[bool]:
    """In the child: whether torch takes allocator settings."""
    import torch

    def takes(conf: str) -> bool:
        torch._C._accelerator_setAllocatorSettings("large_segment_size_mb:20")
        try:
            torch._C._accelerator_setAllocatorSettings(conf)
        except (ValueError, IndexError, RuntimeError):
            return False
        return True

    return [takes(conf) for conf in confs]


KEYS = (
    *("max_split_size_mb", "max_non_split_rounding_mb", "large_segment_size_mb", "expandable_segments"),
    *("garbage_collection_threshold", "roundup_power2_divisions", "per_process_memory_fraction"),
    *("release_lock_on_cudamalloc", "graph_capture_record_stream_reuse", "throw_on_cudamalloc_oom"),
    *("pinned_use_cuda_host_register", "pinned_use_background_threads", "pinned_num_register_threads"),
    *("pinned_reserve_segment_size_mb", "pinned_max_cached_size_mb", "pinned_free_catch_all", "backend"),
    *("max_split_size", "expandable_segment", "expandable_segments_mb", "foo"),
)
VALUES = (
    *(
        "True",
        "False",
        "true",
        "0",
        "1",
        "2",
        "3",
        "10",
        "11",
        "19",
        "20",
        "21",
        "64",
        "128",
        "129",
        "256",
        "200",
    ),
    *(
        "0.5",
        "0.0",
        "1.0",
        "1.1",
        "-1",
        "-0",
        "+64",
        ".5",
        "64MB",
        "x",
        "0.5x",
        "1e-3",
        "1e3",
        "nan",
        "native",
    ),
    *(
        "[256:1,512:2,>:8]",
        "[]",
        "[>:4]",
        "[a:4]",
        "[256:3]",
        "[255:1]",
        "[256:0]",
        "[256]",
        "[256:4,]",
        "[:4]",
    ),
    *("[1:2:3]", "99999999999999999999999"),
)


@needs(torch="2.14")  # 2.4 cannot be asked but through the environment of a process
def test_allocator_settings_are_taken_where_torch_takes_them(virtual_gpu: WarmMachines) -> None:
    draw = random.Random(2)
    confs = [f"{key}:{value}" for key in KEYS for value in VALUES]
    confs += [",".join(f"{key}:{draw.choice(VALUES)}" for key in draw.sample(KEYS, 2)) for _ in range(1000)]

    def takes(conf: str) -> bool:
        try:
            parse_alloc_conf(conf)
            check_alloc_conf(conf)
        except (ValueError, ConfigError):
            return False
        return True

    found = virtual_gpu("a100-80gb", torch_takes, confs)
    assert any(found)
    assert [conf for conf, real in zip(confs, found, strict=True) if takes(conf) != real] == []


def peft_takes(model: str, methods: list[dict[str, Any]]) -> list[str]:
    """In the child: why adapters cannot be had of a model, method by method; empty where they can."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from profiler.workload.adapter import add_adapter

    def refusal(method: dict[str, Any]) -> str:
        config = AutoConfig.from_pretrained(model)
        with torch.device("meta"):
            bare = AutoModelForCausalLM.from_config(config)
        try:
            add_adapter(bare, a_job(model=model, method=method))
        except (ValueError, PeakvramError) as error:
            return str(error)[:300]
        return ""

    return [refusal(method) for method in methods]


@pytest.mark.parametrize("family", JUDGED)
def test_targets_are_refused_where_peft_refuses_or_drops_them(
    family: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = write_model(tmp_path, family)
    methods: list[dict[str, Any]] = [
        {"kind": "lora", "rank": 4, "targets": targets, **extra}
        for targets in TARGETS
        for extra in ({}, {"dropout": 0.1}, {"use_dora": True})
    ]
    found = virtual_gpu("a100-80gb", peft_takes, model, methods)
    assert isinstance(found, list)
    for method, why in zip(methods, found, strict=True):
        said = refusal_of(a_job(model=model, seq_len=64, attention="eager", method=method))
        assert bool(said) == bool(why), (method, said, why)


def refusal_of(job: JobSpec) -> str:
    try:
        check_runnable(job)
    except PeakvramError as error:
        return error.message
    return ""


def why_not(spec: str) -> str:
    """In the child: what the libraries have against a job that nobody has judged; empty where it runs."""
    from profiler.execute.worker import apply_alloc_conf
    from profiler.jobs.models import resolve_model
    from profiler.measure.device import DeviceMeter
    from profiler.measure.phases import Recorder
    from profiler.virtual.values import TrueValues
    from profiler.workload.job import run_phases

    job = JobSpec.model_validate_json(spec)
    source = resolve_model(job.model, weights=job.weights, revision=None)
    recorder = Recorder(meter=DeviceMeter(), has_time=False, on_reading=lambda _: None)
    try:
        apply_alloc_conf(job.alloc_conf)
        with tempfile.TemporaryDirectory() as scratch, TrueValues():
            run_phases(
                job,
                source,
                recorder,
                scratch=Path(scratch),
                on_parameters=lambda _: None,
                on_notes=lambda _: None,
            )
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


WRONG_ALLOC_CONFS = ("max_split_size_mb:8", "garbage:1")


def random_job(draw: random.Random, directory: Path) -> JobSpec:
    """A job that may run or not; the last of its parts is where it may go wrong."""
    family = draw.choice([name for name in FAMILIES if since(transformers=JUDGED_SINCE.get(name, "4"))])
    kind = draw.choice(["full", "lora", "qlora", "int8-lora", "inference"])
    method: dict[str, Any] = {"kind": kind}
    changes: dict[str, Any] = {}
    if kind == "inference":
        method |= {"quant": draw.choice(["none", "nf4", "int8"]), "new_tokens": draw.choice([1, 4, 33])}
    else:
        changes["optimizer"] = draw.choice(["adamw_torch", "adamw_bnb_8bit", "sgd", "adafactor"])
        changes["steps"] = 1
    if "lora" in kind:
        method |= {"targets": draw.choice(TARGETS), "rank": draw.choice([4, 300])}
        method |= draw.choice([{}, {}, {"dropout": 0.1}, {"use_dora": True}])
    return a_job(
        model=write_model(directory, family),
        method=method,
        precision=draw.choice(["bf16", "fp16", "fp32"]),
        attention=draw.choice(["sdpa", "eager"]),
        seq_len=draw.choice([32, 64, 96, 97, 600]),
        batch_size=1,
        alloc_conf=draw.choice(
            ["", "", "max_split_size_mb:64", *(WRONG_ALLOC_CONFS if since(torch="2.14") else ())]
        ),
        **changes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_a_random_job_runs_or_is_refused_as_judged(
    seed: int, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = random_job(random.Random(seed), tmp_path)
    said, why = refusal_of(job), virtual_gpu("rtx-4090", why_not, job.model_dump_json())
    assert bool(said) == bool(why), (said, why)
