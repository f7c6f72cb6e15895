"""Classifiers, encoder-decoders and models that see images, each through the auto class that users take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from profiler.formula.chosen import choose_unnamed
from profiler.jobs.job import JobSpec
from profiler.records.schema import OutcomeStatus, PhaseName
from tests.versions import needs
from tests.virtual.jobs import TINY_LLAMA, a_job, components, run_forked, run_warm
from tests.virtual.test_trainer import SCALARS_BYTES
from tests.virtual.trainer_run import train

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

ENCODER: Mapping[str, object] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 512,
}
TEXT: Mapping[str, object] = {**ENCODER, "num_key_value_heads": 2, "max_position_embeddings": 4096}
SIGHT: Mapping[str, object] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 84,
    "patch_size": 14,
}
TOKENS = {
    "image_token_id": 1000,
    "video_token_id": 1001,
    "vision_start_token_id": 1002,
    "vision_end_token_id": 1003,
}
QWEN_SIGHT = {"depth": 2, "hidden_size": 64, "num_heads": 2, "intermediate_size": 128, "out_hidden_size": 128}
MODELS: Mapping[str, Mapping[str, object]] = {
    "llama": TINY_LLAMA,
    "bert": {"model_type": "bert", **ENCODER},
    "roberta": {"model_type": "roberta", **ENCODER, "max_position_embeddings": 514, "type_vocab_size": 1},
    "deberta-v2": {
        "model_type": "deberta-v2",
        **ENCODER,
        "relative_attention": True,
        "position_buckets": 64,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "type_vocab_size": 0,
    },
    "modernbert": {"model_type": "modernbert", **ENCODER, "num_hidden_layers": 3, "pad_token_id": 0},
    "t5": {
        "model_type": "t5",
        "d_model": 128,
        "d_kv": 32,
        "d_ff": 256,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 1024,
    },
    "bart": {
        "model_type": "bart",
        "d_model": 128,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 256,
        "decoder_ffn_dim": 256,
        "vocab_size": 1024,
        "max_position_embeddings": 256,
    },
    "qwen2_5_vl": {
        "model_type": "qwen2_5_vl",
        **TOKENS,
        "text_config": {
            **TEXT,
            "model_type": "qwen2_5_vl_text",
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        },
        "vision_config": {"model_type": "qwen2_5_vl", **QWEN_SIGHT, "fullatt_block_indexes": [1]},
    },
    "qwen3_vl": {
        "model_type": "qwen3_vl",
        **TOKENS,
        "text_config": {
            **TEXT,
            "model_type": "qwen3_vl_text",
            "head_dim": 32,
            "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [6, 5, 5]},
        },
        "vision_config": {"model_type": "qwen3_vl", **QWEN_SIGHT, "deepstack_visual_indexes": [0]},
    },
    "gemma3": {
        "model_type": "gemma3",
        "text_config": {**TEXT, "model_type": "gemma3_text", "head_dim": 32},
        "vision_config": {"model_type": "siglip_vision_model", **SIGHT, "image_size": 112},
        "mm_tokens_per_image": 16,
        "image_token_index": 1000,
        "boi_token_index": 1001,
        "eoi_token_index": 1002,
    },
    "llava": {
        "model_type": "llava",
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {"model_type": "clip_vision_model", **SIGHT},
        "image_token_index": 1000,
    },
    "llava_next": {
        "model_type": "llava_next",
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {"model_type": "clip_vision_model", **SIGHT},
        "image_token_index": 1000,
        "image_grid_pinpoints": [[84, 168], [168, 84], [168, 168]],
    },
}
SEES = ("qwen2_5_vl", "qwen3_vl", "gemma3", "llava", "llava_next")
SINCE = dict.fromkeys(("modernbert", *SEES), "5")
CLASSIFIES = ("llama", "bert", "roberta", "deberta-v2", "modernbert", "t5", "bart")


def with_releases(families: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, marks=needs(transformers=SINCE.get(name, "4"))) for name in families]


def a_family(directory: Path, family: str) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(MODELS[family]))
    return str(directory)


def a_chosen_job(**changes: Any) -> JobSpec:
    """A small job, with all that suits its model."""
    values = {"gpu": "rtx-4090", "batch_size": 2, "seq_len": 192, "method": "full", "steps": 2}
    return choose_unnamed(JobSpec.model_validate(values | changes))[0]


def assert_it_trains(virtual_gpu: WarmMachines, job: JobSpec) -> None:
    record = run_warm(virtual_gpu, job)
    assert record.outcome.status is OutcomeStatus.OK, record.outcome
    assert record.value_reads is not None
    sites = [site for site in record.value_reads.sites if "integrations/bitsandbytes.py" not in site]
    assert not sites  # bitsandbytes reads statistics of 8-bit weights back, which decide nothing


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "int8-lora"])
@pytest.mark.parametrize("family", with_releases(CLASSIFIES))
def test_a_row_is_classified(family: str, method: str, virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    """Quantized, too: a head that is in no checkpoint is left as it is."""
    model = a_family(tmp_path, family)
    assert_it_trains(virtual_gpu, a_chosen_job(model=model, method=method, task="sequence-classification"))


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("llama", "q_proj"),
        ("bert", "query,value"),
        pytest.param("modernbert", "Wqkv", marks=needs(transformers="5")),
    ],
)
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_each_token_is_classified(
    family: str, targets: str, method: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    own = {"kind": method} | ({"targets": targets} if method != "full" else {})
    job = a_chosen_job(
        model=a_family(tmp_path, family),
        method=own,
        task="token-classification",
        num_labels=9,
        attention_mask="padded",
    )
    assert_it_trains(virtual_gpu, job)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_row_is_made_of_another(
    family: str, method: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_chosen_job(model=a_family(tmp_path, family), method=method, target_len=48)
    assert_it_trains(virtual_gpu, job)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("family", with_releases(SEES))
def test_images_are_seen(family: str, method: str, virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    model = a_family(tmp_path, family)
    job = a_chosen_job(
        model=model, method=method, task="image-text-to-text", images=2, image_size=160, seq_len=640
    )
    assert_it_trains(virtual_gpu, job)
    more = job.model_copy(update={"images": 3})
    pixels = [components(run_warm(virtual_gpu, one), PhaseName.FORWARD, 0).batch_bytes for one in (job, more)]
    assert pixels[1] > pixels[0]


@pytest.mark.parametrize("precision", ["bf16", "fp32", "bf16-amp"])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_single_label_is_a_score(
    family: str, precision: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_family(tmp_path, family)
    assert_it_trains(virtual_gpu, a_chosen_job(model=model, num_labels=1, precision=precision))


def test_the_head_of_a_classifier_is_trained_beside_its_adapters(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_family(tmp_path, "llama")
    method = {"kind": "lora", "rank": 4, "targets": "q_proj"}
    told = [run_warm(virtual_gpu, a_job(model=model, method=method, num_labels=n)) for n in (2, 5)]
    trainable = [record.parameters.trainable for record in told if record.parameters is not None]
    hidden = 256
    assert trainable == [2 * 4 * (hidden + hidden) + n * hidden for n in (2, 5)]


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"task": "sequence-classification"}),
        ("llama", {"task": "sequence-classification", "attention_mask": "padded", "method": "lora"}),
        ("bert", {"task": "token-classification"}),
        ("t5", {"target_len": 48}),
        ("bart", {"precision": "bf16-amp"}),
        pytest.param("llava", {"task": "image-text-to-text"}, marks=needs(transformers="5")),
    ],
    ids=str,
)
def test_the_trainer_takes_the_same_phase_by_phase(
    family: str, changes: dict[str, object], virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_chosen_job(model=a_family(tmp_path, family), loop="trainer", batch_size=4, **changes)
    ours = [phase for phase in run_warm(virtual_gpu, job).phases if phase.step is not None]
    theirs = virtual_gpu("rtx-4090", train, job.model_dump_json())
    for phase, (_, _, end_bytes, peak_bytes) in zip(ours, theirs, strict=True):
        assert 0 <= end_bytes - phase.allocated_end_bytes <= SCALARS_BYTES, (phase.name, phase.step)
        assert 0 <= peak_bytes - phase.allocated_peak_bytes <= SCALARS_BYTES, (phase.name, phase.step)


def save_body(directory: str) -> None:
    """In the child: a checkpoint of an encoder, as it is published."""
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(directory)
    AutoModel.from_config(config).to(torch.bfloat16).save_pretrained(directory)


def test_a_published_body_takes_what_one_without_data_takes(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    """The checkpoint of a body has no head: it is made with the model, as users are warned."""
    model = a_family(tmp_path, "bert")
    job = a_chosen_job(model=model, method="qlora")
    random = run_warm(virtual_gpu, job)
    virtual_gpu("rtx-4090", save_body, model)
    pretrained = run_warm(virtual_gpu, job.model_copy(update={"weights": "pretrained"}))
    assert pretrained.peak == random.peak


def test_positions_of_a_family_that_is_not_known_are_counted_once_it_is_loaded(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    """LED's learned positions of the decoder are BART's."""
    model = str(tmp_path)
    led = {**MODELS["bart"], "model_type": "led", "max_decoder_position_embeddings": 64}
    (tmp_path / "config.json").write_text(
        json.dumps({**led, "max_encoder_position_embeddings": 512, "attention_window": 32})
    )
    told = run_forked(virtual_gpu, a_chosen_job(model=model, seq_len=64, target_len=65, attention="eager"))
    assert told["message"] == f"{model} has positions for 64 tokens, not for 65"
    assert told["hint"] == "choose --target-len 64 or less"
