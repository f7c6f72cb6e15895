"""What a model's own processor makes of an image: tokens of its row, pixels, grids.

Images are square, and each is given as its family's processor gives it with the settings that are published
with the family's models; those settings are no part of a config, and stand here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.jobs.choices import AttentionMask
from profiler.jobs.job import num_padded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from profiler.jobs.job import JobSpec

_CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """One image as a model takes it.

    Attributes:
        tokens: its tokens of the row, with those around it; None for one that may be any token of text.
        image_token: the one that stands for a feature of the image.
        pixels: the shape of its pixel values, float32; images follow each other in the first dimension.
        sizes: whole numbers that come with each image, by the name of the tensor that they are a row of.
        type_ids: what a tensor is called that tells tokens of images from text; empty without one.
    """

    tokens: tuple[int | None, ...]
    image_token: int
    pixels: tuple[int, ...]
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    type_ids: str = ""


def image_input(config: Mapping[str, object], *, image_size: int) -> ImageInput:
    """What becomes of a square image.

    Args:
        config: the model's.
        image_size: pixels a side.

    Raises:
        ConfigError: what the family's processor does is not followed.
    """
    model_type = str(config["model_type"])
    if model_type in _LOOK_AT_PIXELS:
        raise ConfigError(
            f"images are not followed for {model_type} models, which look for blank ones among their pixels",
            hint="a virtual card knows no pixels; --images 0 trains on text alone",
        )
    if model_type not in _FAMILIES:
        raise ConfigError(
            f"images are not followed for {model_type} models",
            hint=f"they are for {', '.join(_FAMILIES)}; --images 0 trains on text alone",
        )
    return _FAMILIES[model_type](config, image_size)


def check_images(job: JobSpec, config: Mapping[str, object]) -> None:
    """Makes sure that a row holds the images that a job puts into it.

    Raises:
        ConfigError: it does not, or the model's images are not followed.
    """
    if not job.has_images:
        return
    least = least_tokens(job, config)
    length = job.seq_len - (num_padded(job.seq_len) if job.attention_mask is AttentionMask.PADDED else 0)
    if least > length:
        raise ConfigError(
            f"a row of {length} tokens does not hold {job.images} images, which are {least - 1} tokens to "
            f"{job.model}, and text besides",
            hint=f"choose --seq-len {_longer(least, job)} or more, fewer --images or a smaller --image-size",
        )


def _longer(least: int, job: JobSpec) -> int:
    """The shortest row that has so many tokens besides its padding."""
    is_padded = job.attention_mask is AttentionMask.PADDED
    lengths = (length for length in range(least, 2 * least + 4))
    return next(length for length in lengths if length - (num_padded(length) if is_padded else 0) >= least)


def least_tokens(job: JobSpec, config: Mapping[str, object]) -> int:
    """Tokens of the shortest row that holds a job's images; 1 without any.

    Raises:
        ConfigError: the model's images are not followed.
    """
    if not job.has_images:
        return 1
    return job.images * len(image_input(config, image_size=job.image_size).tokens) + 1


def _vision(config: Mapping[str, object], *, image_size: int, patch_size: int) -> Mapping[str, object]:
    """The encoder's config, on what transformers has for what it leaves out."""
    own = config.get("vision_config")
    return {"image_size": image_size, "patch_size": patch_size} | (dict(own) if isinstance(own, dict) else {})


def _number(config: Mapping[str, object], name: str, default: int) -> int:
    value = config.get(name, default)
    return value if isinstance(value, int) else default


def _qwen(
    config: Mapping[str, object], image_size: int, *, patch_size: int, min_pixels: int, max_pixels: int
) -> ImageInput:
    """`Qwen2VLImageProcessor`: any size, in whole squares of merged patches."""
    vision = _vision(config, image_size=0, patch_size=patch_size)
    patch, merge = _number(vision, "patch_size", patch_size), _number(vision, "spatial_merge_size", 2)
    frames = _number(vision, "temporal_patch_size", 2)
    factor = patch * merge
    side = round(image_size / factor) * factor
    if side * side > max_pixels:  # as it is rounded there: a whole number may come out as a little less
        side = max(factor, math.floor(image_size / math.sqrt(image_size**2 / max_pixels) / factor) * factor)
    elif side * side < min_pixels:
        side = math.ceil(image_size * math.sqrt(min_pixels / image_size**2) / factor) * factor
    grid = side // patch
    token = _number(config, "image_token_id", 151655)
    around = _number(config, "vision_start_token_id", 151652), _number(config, "vision_end_token_id", 151653)
    return ImageInput(
        tokens=(around[0], *[token] * (grid // merge) ** 2, around[1]),
        image_token=token,
        pixels=(grid * grid, _CHANNELS * frames * patch * patch),
        sizes={"image_grid_thw": (1, grid, grid)},
        type_ids="mm_token_type_ids",
    )


def _qwen2(config: Mapping[str, object], image_size: int) -> ImageInput:
    """As `preprocessor_config.json` of Qwen/Qwen2-VL-7B-Instruct and Qwen2.5-VL-7B-Instruct has it."""
    return _qwen(config, image_size, patch_size=14, min_pixels=3136, max_pixels=12_845_056)


def _qwen3(config: Mapping[str, object], image_size: int) -> ImageInput:
    """As `preprocessor_config.json` of Qwen/Qwen3-VL-2B-Instruct has it."""
    return _qwen(config, image_size, patch_size=16, min_pixels=65_536, max_pixels=16_777_216)


def _gemma3(config: Mapping[str, object], _image_size: int) -> ImageInput:
    """`Gemma3Processor` without pan and scan, which is off by default: always the encoder's size."""
    side = _number(_vision(config, image_size=896, patch_size=14), "image_size", 896)
    token = _number(config, "image_token_index", 262144)
    begin, end = _number(config, "boi_token_index", 255999), _number(config, "eoi_token_index", 256000)
    features = [token] * _number(config, "mm_tokens_per_image", 256)
    return ImageInput(
        tokens=(None, begin, *features, end, None),  # a token of two line breaks on each side
        image_token=token,
        pixels=(1, _CHANNELS, side, side),
        type_ids="token_type_ids",
    )


def _llava(config: Mapping[str, object], _image_size: int) -> ImageInput:
    """`LlavaProcessor`: always the encoder's size."""
    side, patches, class_token = _of_tower(config)
    token = _number(config, "image_token_index", 32000)
    return ImageInput(
        tokens=(token,) * (patches * patches + class_token),
        image_token=token,
        pixels=(1, _CHANNELS, side, side),
    )


def _llava_next(config: Mapping[str, object], image_size: int) -> ImageInput:
    """`LlavaNextProcessor`: tiles of the encoder's size, and the whole once more; a token ends each row."""
    side, patches, class_token = _of_tower(config)
    token = _number(config, "image_token_index", 32000)
    pinpoints = config.get("image_grid_pinpoints") or _LLAVA_NEXT_PINPOINTS
    assert isinstance(pinpoints, list | tuple), "it is a list of sizes"
    height, width = _best_resolution(image_size, [(int(high), int(wide)) for high, wide in pinpoints])
    rows, columns = height // side, width // side
    across = min(rows, columns) * patches  # the rest of the longer side is padding, which is dropped
    longer = max(rows, columns) * patches
    across_longer = longer - (longer - across) // 2 * 2
    high, wide = (across_longer, across) if rows > columns else (across, across_longer)
    num_tokens = high * wide + high + patches * patches + class_token
    return ImageInput(
        tokens=(token,) * num_tokens,
        image_token=token,
        pixels=(1, rows * columns + 1, _CHANNELS, side, side),
        sizes={"image_sizes": (image_size, image_size)},
    )


_LLAVA_NEXT_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def _best_resolution(image_size: int, pinpoints: list[tuple[int, int]]) -> tuple[int, int]:
    """`select_best_resolution` of transformers: most of the image kept, then least of the canvas wasted."""

    def fit(canvas: tuple[int, int]) -> tuple[int, int]:
        kept = min(min(canvas) ** 2, image_size**2)
        return kept, kept - canvas[0] * canvas[1]

    return max(pinpoints, key=fit)


def _of_tower(config: Mapping[str, object]) -> tuple[int, int, int]:
    """Of LLaVA's encoder: pixels a side, patches a side, and 1 where the class token is a feature, too."""
    vision = _vision(config, image_size=336, patch_size=14)
    kind = vision.get("model_type", "clip_vision_model")
    if kind not in ("clip_vision_model", "siglip_vision_model"):
        raise ConfigError(
            f"images are not followed for {config['model_type']} models with an encoder {kind}",
            hint="they are with one of CLIP or SigLIP; --images 0 trains on text alone",
        )
    side, patch = _number(vision, "image_size", 336), _number(vision, "patch_size", 14)
    is_full = config.get("vision_feature_select_strategy", "default") == "full"
    return side, side // patch, int(is_full and kind == "clip_vision_model")


_LOOK_AT_PIXELS = ("idefics2", "idefics3", "smolvlm")
_FAMILIES: Mapping[str, Callable[[Mapping[str, object], int], ImageInput]] = MappingProxyType(
    {
        **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), _qwen2),
        **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), _qwen3),
        "gemma3": _gemma3,
        "llava": _llava,
        "llava_next": _llava_next,
    }
)
