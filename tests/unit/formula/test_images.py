"""What becomes of an image, against transformers' own processors where they need no tokenizer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from profiler.errors import ConfigError
from profiler.formula.configs import config_of
from profiler.formula.images import check_images, image_input, least_tokens
from tests.builders import a_job

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIP = {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14}
LLAVA = {"model_type": "llava", "vision_config": CLIP}
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
SIZES = [40, 100, 224, 300, 336, 448, 500, 672, 1000, 1333, 2000, 5000]


def a_config(preset: str) -> Mapping[str, object]:
    config = config_of(preset)
    assert config is not None
    return config


@pytest.mark.parametrize(
    ("preset", "published"),
    [
        ("qwen2.5-vl-3b", {"patch_size": 14, "size": {"shortest_edge": 3136, "longest_edge": 12_845_056}}),
        ("qwen3-vl-2b", {"patch_size": 16, "size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}}),
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_qwen_has_the_grid_that_its_processor_gives(
    preset: str, published: dict[str, object], size: int
) -> None:
    resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    bounds: Any = published["size"]
    patch: Any = published["patch_size"]
    height, width = resize(
        size,
        size,
        factor=2 * patch,
        min_pixels=bounds["shortest_edge"],
        max_pixels=bounds["longest_edge"],
    )
    image = image_input(a_config(preset), image_size=size)
    assert image.sizes == {"image_grid_thw": (1, height // patch, width // patch)}
    assert image.pixels == (height * width // patch**2, 3 * 2 * patch**2)
    assert image.tokens.count(image.image_token) == image.pixels[0] // 4
    assert len(image.tokens) == image.pixels[0] // 4 + 2


@pytest.mark.parametrize("size", SIZES)
def test_llava_next_has_the_tiles_and_tokens_that_its_processor_gives(size: int) -> None:
    utils = pytest.importorskip("transformers.image_processing_utils")
    processing = importlib.import_module("transformers.models.llava_next.processing_llava_next")
    config = {"model_type": "llava_next", "vision_config": CLIP, "image_grid_pinpoints": PINPOINTS}
    image = image_input(config, image_size=size)
    height, width = utils.select_best_resolution((size, size), PINPOINTS)
    assert image.pixels == (1, height // 336 * (width // 336) + 1, 3, 336, 336)
    processor: Any = object.__new__(processing.LlavaNextProcessor)
    text, newlines = processor._get_unpadded_features(size, size, 24, 24, height // 336, width // 336)
    assert len(image.tokens) == text + newlines + 24 * 24
    assert image.sizes == {"image_sizes": (size, size)}


@pytest.mark.parametrize(
    ("changes", "num_tokens"),
    [({}, 576), ({"vision_feature_select_strategy": "full"}, 577)],
)
def test_llava_has_a_token_for_each_patch_of_its_encoder(changes: dict[str, object], num_tokens: int) -> None:
    image = image_input({**LLAVA, **changes}, image_size=4000)
    assert (image.pixels, len(image.tokens)) == ((1, 3, 336, 336), num_tokens)


def test_gemma_3_has_256_tokens_whatever_the_image() -> None:
    image = image_input(a_config("gemma-3-4b"), image_size=100)
    assert image.pixels == (1, 3, 896, 896)
    assert image.tokens.count(image.image_token) == 256
    assert len(image.tokens) == 260


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "paligemma"}, "images are not followed for paligemma models"),
        ({"model_type": "smolvlm"}, "which look for blank ones among their pixels"),
        ({**LLAVA, "vision_config": {"model_type": "pixtral"}}, "with an encoder pixtral"),
    ],
    ids=str,
)
def test_what_is_not_followed_is_refused_with_a_way_out(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        image_input(config, image_size=448)
    assert "--images 0 trains on text alone" in caught.value.hint


@pytest.mark.parametrize("mask", ["full", "padded"])
def test_the_length_that_is_told_is_the_shortest_that_holds_the_images(mask: str) -> None:
    config = a_config("qwen2.5-vl-3b")
    seen = {"model": "qwen2.5-vl-3b", "task": "image-text-to-text", "images": 3, "attention_mask": mask}
    with pytest.raises(ConfigError) as caught:
        check_images(a_job(**seen, seq_len=300), config)
    length = int(caught.value.hint.split("--seq-len ")[1].split()[0])
    check_images(a_job(**seen, seq_len=length), config)
    with pytest.raises(ConfigError):
        check_images(a_job(**seen, seq_len=length - 1), config)


def test_rows_without_images_may_be_of_one_token() -> None:
    assert least_tokens(a_job(), {"model_type": "paligemma"}) == 1
    assert least_tokens(a_job(task="image-text-to-text", images=0), {"model_type": "paligemma"}) == 1
