"""What silently does not apply to a job is said, with bytes that are the parameters' own."""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from profiler.jobs.choices import Attention
from profiler.jobs.job import JobSpec
from profiler.records.schema import OutcomeStatus, PhaseName, Record
from profiler.units import format_bytes
from tests.versions import needs
from tests.virtual.jobs import a_job, a_model, components, phase, run_warm

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines

STACKS = needs(transformers="5")
"""transformers that keeps the experts of a block in one tensor."""
HAS_IMAGES = needs(transformers="5")
"""transformers whose Gemma 3 trains on text without being told where images are."""

MIXTURE = {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 256,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "head_dim": 64,
    "vocab_size": 512,
    "decoder_sparse_step": 1,
}
EXPERTS = 2 * 8 * 3 * 256 * 256
"""Elements of gates, ups and downs of two blocks' eight experts."""
TABLES = 2 * 512 * 256
"""Elements of embeddings and output layer."""

WITH_IMAGES = {
    "model_type": "gemma3",
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 1024,
        "max_position_embeddings": 2048,
        "sliding_window": 128,
    },
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    },
    "mm_tokens_per_image": 4,
    "image_token_index": 1000,
    "boi_token_index": 1001,
    "eoi_token_index": 1002,
}


def run(virtual_gpu: WarmMachines, model: str, **changes: Any) -> Record:
    record = run_warm(virtual_gpu, a_job(model=model, **{"steps": 1, **changes}))
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
    return record


def about(notes: tuple[str, ...] | list[str], start: str) -> str:
    """The one note that begins so."""
    (note,) = [note for note in notes if note.startswith(start)]
    return note


# ---- quantization ----


@STACKS
@pytest.mark.parametrize("kind", ["qlora", "int8-lora"])
def test_experts_that_quantization_leaves_out_are_said_with_the_bytes_they_take(
    kind: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    record = run(virtual_gpu, a_model(tmp_path, **MIXTURE), method=kind)
    note = about(record.notes, "quantization")
    matched = re.fullmatch(
        r"quantization leaves out (\d\d\.\d)% of the parameters, ([\d,]+): "
        r"experts\.gate_up_proj, experts\.down_proj, (?:embed_tokens, lm_head|lm_head, embed_tokens); "
        r"they take ([\d.]+ MiB) in float32, as k-bit preparation casts them",
        note,
    )
    assert matched, note
    share, count, size = matched.groups()
    # Routers, and scales of norms: two of a block's width and two of a head's in each block, and the last.
    others = 2 * (8 * 256 + 2 * 256 + 2 * 64) + 256
    assert int(count.replace(",", "")) == EXPERTS + TABLES + others
    assert size == format_bytes(4 * (EXPERTS + TABLES + others))
    assert record.parameters is not None
    own = record.parameters.total - record.parameters.trainable
    assert float(share) == pytest.approx(100 * (EXPERTS + TABLES + others) / own, abs=0.05)
    grown = (
        components(record, PhaseName.PREPARE).weights_bytes - components(record, PhaseName.LOAD).weights_bytes
    )
    assert grown == pytest.approx(2 * (EXPERTS + TABLES + others), rel=0.01), "from 2 bytes to 4"


def test_a_card_too_small_to_load_a_model_says_what_is_not_quantized(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    # Tables larger than the card: it is in `from_pretrained` that memory runs out.
    model = a_model(tmp_path, vocab_size=1_500_000)
    record = run_warm(virtual_gpu, a_job(model=model, method="qlora", gpu_memory_bytes=7 << 28))
    found = (record.outcome.status, record.outcome.phase)
    assert found == (OutcomeStatus.OOM, PhaseName.LOAD), record.outcome.message
    left = 2 * 1_500_000 * 256 + 5 * 256
    assert record.notes == (
        f"quantization leaves out 99.8% of the parameters, {left:,}: embed_tokens, lm_head; "
        f"they take {format_bytes(4 * left)} in float32, as k-bit preparation casts them",
    )


def test_a_model_without_much_besides_linear_layers_has_no_note_on_quantization(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path, vocab_size=64)
    assert not [note for note in run(virtual_gpu, model, method="qlora").notes if "quantization" in note]


def test_weights_of_a_loaded_model_are_quantized_or_left_out(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    inference = {"kind": "inference", "quant": "int8", "new_tokens": 2}
    record = run_warm(virtual_gpu, a_job(model=a_model(tmp_path), method=inference))
    left = 2 * 4096 * 256 + 5 * 256
    assert about(record.notes, "quantization") == (
        f"quantization leaves out {left / (left + 2 * 737_280):.1%} of the parameters, {left:,}: "
        f"embed_tokens, lm_head; they take {format_bytes(2 * left)} in bfloat16"
    )


# ---- adapters ----


def test_targets_that_only_some_blocks_have_are_said(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("a100-80gb", partly_adapted, ["q_proj", "gate_proj", "up_proj"]) == [
        "targets: gate_proj, up_proj in 1 of the 4 blocks of model.layers alone"
    ]
    assert virtual_gpu("a100-80gb", partly_adapted, ["q_proj", "v_proj"]) == []


@STACKS
def test_what_all_linear_does_not_name_is_said_with_its_share(virtual_gpu: WarmMachines) -> None:
    (note,) = virtual_gpu("a100-80gb", partly_adapted, "all-linear")
    # Three blocks' experts, gate and up side by side, and their routers are no linear layers.
    left = 3 * (8 * 3 * 64 * 128 + 8 * 128)
    matched = re.fullmatch(
        r"all-linear leaves out (\d\d\.\d)% of the parameters, ([\d,]+): "
        r"no adapter is on experts\.gate_up_proj, experts\.down_proj(?:, mlp\.gate)?",
        note,
    )
    assert matched, note
    assert int(matched[2].replace(",", "")) == left


def partly_adapted(targets: Any) -> list[str]:
    """In the child: notes on a model whose first block alone is dense, its experts unknown to peft."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from profiler.workload.calls import Calls
    from profiler.workload.findings import Seen, find_notes

    small = {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    small |= {"intermediate_size": 256, "moe_intermediate_size": 64, "vocab_size": 512, "head_dim": 32}
    config = AutoConfig.for_model(
        "qwen3_moe", **small, num_experts=8, num_experts_per_tok=2, mlp_only_layers=[0]
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    setattr(config, "model_type", "of nobody's")  # noqa: B010 - a class variable; peft knows experts by it
    adapted = get_peft_model(model, LoraConfig(target_modules=targets, task_type="CAUSAL_LM"))
    spec = a_job(model="x", method={"kind": "lora", "targets": targets})
    seen = Seen(spec=spec, model=adapted, calls=Calls(), readings=(), optimizer=None)
    return list(find_notes(seen))


# ---- what is never fed ----


@HAS_IMAGES
def test_a_tower_for_images_is_loaded_and_never_fed(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path, **WITH_IMAGES)
    full = about(run(virtual_gpu, model, method="full").notes, "loaded")
    lora = about(run(virtual_gpu, model, method="lora").notes, "loaded")
    tower, projector, adapters = virtual_gpu("a100-80gb", sizes_of_parts, model)
    assert full == (
        "loaded, and never fed by a batch of text alone: "
        f"model.vision_tower (SiglipVisionModel, {format_bytes(tower)}), "
        f"model.multi_modal_projector (Gemma3MultiModalProjector, {format_bytes(projector)})"
    )
    assert lora == full.replace(
        format_bytes(tower), f"{format_bytes(tower)} and {format_bytes(adapters)} of adapters"
    )


def sizes_of_parts(directory: str) -> tuple[int, int, int]:
    """In the child: bytes of the tower's and the projector's weights, and of adapters on the tower."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
    parts = (model.model.vision_tower, model.model.multi_modal_projector)
    tower, projector = (2 * sum(p.numel() for p in part.parameters()) for part in parts)
    linears = [one for one in parts[0].modules() if isinstance(one, torch.nn.Linear)]
    return tower, projector, 4 * sum(16 * (one.in_features + one.out_features) for one in linears)


def test_experts_without_a_turn_are_not_called_unfed(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("a100-80gb", parts_never_called, "list") == []
    assert virtual_gpu("a100-80gb", parts_never_called, "tower") == ["tower"]
    assert virtual_gpu("a100-80gb", parts_never_called, "weight") == []


def parts_never_called(kind: str) -> list[str]:
    """In the child: what is never called of a model with experts, a tower, or a layer used by its weight."""
    import torch
    from torch import nn

    from profiler.measure.device import DeviceMeter
    from profiler.measure.phases import Recorder
    from profiler.workload.calls import Calls, never_called, watched_calls

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if kind == "list":
                self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(3))
            else:
                self.experts = nn.ModuleList([nn.Sequential(nn.Linear(4, 4))])
            self.tower = nn.Sequential(nn.Linear(4, 4)) if kind == "tower" else None
            self.weight = nn.Linear(4, 4) if kind == "weight" else None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.experts[0](x)
            return x if self.weight is None else x @ self.weight.weight

    model, calls = Model(), Calls()
    recorder = Recorder(meter=DeviceMeter(), has_time=False, on_reading=lambda _: None)
    with watched_calls(model, recorder, calls):
        model(torch.zeros(1, 4))
    seen = set(calls.forward)
    model(torch.zeros(1, 4))
    assert calls.forward == seen != set(), "nobody watches any more"
    return [path for path, _ in never_called(model, calls)]


# ---- attention and checkpointing ----


def test_attention_that_a_model_replaces_is_said_and_takes_what_it_takes(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path, max_position_embeddings=4096)
    job = a_job(model=model, steps=1, gradient_checkpointing=False, seq_len=1024)
    eager = job.model_copy(update={"attention": Attention.EAGER})
    told, phases = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "eager")
    assert about(told, "attention") == "attention: sdpa was asked for, and LlamaForCausalLM takes eager"
    told, as_asked = virtual_gpu("a100-80gb", run_patched, eager.model_dump_json(), "")
    assert not [note for note in told if note.startswith("attention")]
    assert phases[:-1] == as_asked[:-1]  # without the counts of the whole run: masks are made otherwise


@needs(torch="2.5")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_attention_that_no_fused_kernel_takes_is_said_with_the_scores_it_makes(
    checkpointing: bool, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path, num_attention_heads=4, num_hidden_layers=3)
    job = a_job(model=model, steps=1, gradient_checkpointing=checkpointing, batch_size=2, seq_len=256)
    told, _ = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "no fused kernel")
    assert about(told, "attention") == (
        "attention: no fused kernel takes 3 of the calls of sdpa, which are plain matrix products then: "
        f"{format_bytes(2 * 4 * 256 * 256 * 4)} of scores each"
    )
    told, _ = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "")
    assert not [note for note in told if note.startswith("attention")]


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_checkpointing_that_a_model_ignores_is_said_with_what_it_keeps(
    method: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_job(model=a_model(tmp_path), steps=1, method=method)
    told, phases = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "no checkpoints")
    _, as_asked = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "")
    kept, left = (
        next(one["components"]["activations_bytes"] for one in found if one["name"] == "forward")
        for found in (phases, as_asked)
    )
    assert about(told, "gradient") == (
        "gradient checkpointing was asked for, and LlamaForCausalLM computes nothing again: "
        f"the forward pass leaves {format_bytes(kept)} of activations"
    )
    assert kept > 1.2 * left


@needs(transformers="5")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_block_that_ignores_checkpointing_is_told_from_those_that_do_not(
    reentrant: bool, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    checkpointing = {"enabled": True, "reentrant": reentrant}
    model = a_model(tmp_path)
    job = a_job(model=model, steps=1, gradient_checkpointing=checkpointing, method="lora")
    told, _ = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "one block")
    assert ", and 1 of 2 LlamaDecoderLayer are not computed again: " in about(told, "gradient")
    told, _ = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "")
    assert not [note for note in told if note.startswith("gradient")]


def run_patched(spec: str, patch: str) -> tuple[list[str], list[dict[str, Any]]]:
    """In the child: a job's notes and phases, of a Llama that is not as it should be."""
    import torch
    from transformers import PreTrainedModel
    from transformers.models.llama import modeling_llama

    from profiler.jobs.models import resolve_model
    from profiler.measure.device import DeviceMeter
    from profiler.measure.phases import Recorder
    from profiler.virtual.values import TrueValues
    from profiler.workload.job import run_phases

    make = modeling_llama.LlamaModel.__init__

    def make_other(self: Any, config: Any) -> None:
        make(self, config)
        if patch == "eager":
            config._attn_implementation = "eager"
        if patch == "one block":
            layer = self.layers[1]
            layer.forward = functools.partial(type(layer).forward.__wrapped__, layer)

    def set_nothing(_self: Any, **_settings: Any) -> None:
        pass

    patched = contextlib.ExitStack()
    patched.enter_context(mock.patch.object(modeling_llama.LlamaModel, "__init__", make_other))
    if patch == "no checkpoints":
        patched.enter_context(mock.patch.object(PreTrainedModel, "_set_gradient_checkpointing", set_nothing))
    if patch == "no fused kernel":
        patched.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
    if patch == "unwatched":
        patched.enter_context(mock.patch("profiler.workload.notes.Notes.tell"))
        patched.enter_context(
            mock.patch("profiler.workload.notes.watched_calls", return_value=contextlib.nullcontext())
        )
    job = JobSpec.model_validate_json(spec)
    source = resolve_model(job.model, weights=job.weights, revision=None)
    told: list[tuple[str, ...]] = []
    recorder = Recorder(meter=DeviceMeter(), has_time=False, on_reading=lambda _: None)
    with patched, tempfile.TemporaryDirectory() as scratch, TrueValues():
        run_phases(
            job,
            source,
            recorder,
            scratch=Path(scratch),
            on_parameters=lambda _: None,
            on_notes=told.append,
        )
    # How free blocks were split and merged follows the order of frees, which the collector of cycles moves.
    stats = {name: of for name, of in torch.cuda.memory_stats().items() if "inactive_split" not in name}
    events = {name: stats[name] for name in stats if name.endswith((".allocated", ".freed"))}
    phases = [reading.model_dump(mode="json") for reading in recorder.readings]
    return list(told[-1]) if told else [], [*phases, {"name": "all", "step": -1, **events}]


WATCHED: tuple[dict[str, Any], ...] = (
    {"method": "inference"},
    *({"method": method, "steps": 2} for method in ("full", "lora", "qlora", "int8-lora")),
    *({"method": method, "steps": 2, "gradient_checkpointing": False} for method in ("full", "qlora")),
)


@pytest.mark.parametrize("settings", WATCHED)
def test_finding_notes_makes_no_event_of_the_allocator(
    settings: dict[str, Any], virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_job(model=a_model(tmp_path), **settings)
    _, watched = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "")
    told, unwatched = virtual_gpu("a100-80gb", run_patched, job.model_dump_json(), "unwatched")
    assert watched == unwatched
    assert told == []
    assert watched[-1]["allocation.all.allocated"] > 100


# ---- what is merely large ----


def test_float32_logits_are_said_where_they_are_a_visible_part_of_the_peak(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path)
    copy = format_bytes(2 * 256 * 4096 * 4)
    lora = run(virtual_gpu, model, method="lora")
    assert lora.notes == (f"logits are cast to float32 for the loss of a bfloat16 job: {copy} a copy",)
    qlora = run(virtual_gpu, model, method="qlora")
    assert about(qlora.notes, "logits") == f"logits are float32 for the loss of a bfloat16 job: {copy} a copy"
    assert run(virtual_gpu, model, method="lora", precision="fp32").notes == ()
    assert run(virtual_gpu, a_model(tmp_path / "narrow", vocab_size=64), method="lora").notes == ()


def test_the_foreach_steps_temporaries_are_said_where_they_are_the_peak(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path, hidden_size=1024, intermediate_size=4096, vocab_size=256)
    record = run(virtual_gpu, model, batch_size=1, seq_len=64, steps=2)
    # The matrices of both layers, embeddings and output layer; the norms are another group.
    matrices = 2 * (2 * 1024 * 1024 + 2 * 1024 * 512 + 3 * 1024 * 4096) + 2 * 256 * 1024
    assert record.notes == (
        f"the optimizer's step is the peak: foreach holds {format_bytes(2 * matrices)} of temporaries "
        "besides its states",
    )
    step = phase(record, PhaseName.STEP, 1)
    assert step.allocated_peak_bytes - step.allocated_end_bytes == 2 * matrices
    fused = run(virtual_gpu, model, batch_size=1, seq_len=64, steps=2, optimizer="adamw_torch_fused")
    assert fused.notes == ()


def test_a_plain_job_has_nothing_to_say(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_model(tmp_path, vocab_size=64, num_hidden_layers=4)
    for method in ("full", "lora", "qlora", "int8-lora"):
        assert run(virtual_gpu, model, method=method, optimizer="adamw_torch_fused").notes == (), method
