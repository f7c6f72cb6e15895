"""A checkpoint of a model's shapes with no data in it, for weights that are random.

`from_pretrained` then runs exactly as on a real checkpoint, quantization on the fly included, and allocates
in the same order. The safetensors files are sparse: they have the size of the real ones, take no disk, and
read as zeros page by page, so that a 405B model needs neither 810 GB of disk nor of host memory.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
import transformers
from packaging.version import Version

from profiler.workload.auto_class import auto_class, has_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel

    from profiler.jobs.choices import Task

DTYPE_ARGUMENT = "dtype" if Version(transformers.__version__) >= Version("4.56") else "torch_dtype"
"""What transformers' loading functions call the type of the weights; renamed in 4.56 (its release notes)."""
SHARD_BYTES = 5 * 10**9
"""Largest shard, as checkpoints on the Hub have it (transformers' own default until version 5)."""

# https://huggingface.co/docs/safetensors: "Format", dtype names.
_DTYPE_NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_sparse_checkpoint(
    config: PretrainedConfig, directory: Path, *, task: Task, dtype: torch.dtype
) -> None:
    """Write `config.json` and sparse safetensors shards for the model that `config` describes.

    A classifier's head is left out, as it is of the published checkpoints that classifiers are made from.

    Args:
        config: the model's configuration.
        directory: an existing, empty directory.
        task: what the model is for.
        dtype: of the floating-point weights.
    """
    config.save_pretrained(directory)
    tensors = _tensors_on_disk(config, task, dtype)
    # `safe_open` hands a file's tensors out by name, in which order they are loaded, and quantized.
    shards = [dict(sorted(shard.items())) for shard in _split(tensors)]
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_sparse_file(directory / name, shard)
        weight_map |= dict.fromkeys(shard, name)
    total_bytes = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def _tensors_on_disk(config: PretrainedConfig, task: Task, dtype: torch.dtype) -> Mapping[str, torch.Tensor]:
    """The checkpoint's tensors by name, on the meta device: tied ones once, as they are saved."""
    with torch.device("meta"):
        model = auto_class(task).from_config(config, **{DTYPE_ARGUMENT: dtype})
    body = f"{model.base_model_prefix}." if has_labels(task) else ""
    seen: set[int] = set()
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen and name.startswith(body):
            seen.add(id(tensor))
            tensors[name] = tensor.detach()
    return _as_published(model, tensors)


def _as_published(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The names and shapes of the published checkpoint, where transformers keeps a model otherwise in memory.

    Mixture-of-experts checkpoints have one tensor an expert, which version 5 merges as it loads; older
    versions keep them apart in memory too.
    """
    try:
        from transformers.core_model_loading import revert_weight_conversion  # noqa: PLC0415 - transformers 5 alone has it
    except ImportError:
        return tensors
    reverted: Mapping[str, torch.Tensor] = revert_weight_conversion(model, dict(tensors))
    return reverted


def _split(tensors: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    shard: dict[str, torch.Tensor] = {}
    shard_bytes = 0
    for name, tensor in tensors.items():
        if shard and shard_bytes + tensor.nbytes > SHARD_BYTES:
            yield shard
            shard, shard_bytes = {}, 0
        shard[name] = tensor
        shard_bytes += tensor.nbytes
    yield shard


def _write_sparse_file(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    header |= _entries(tensors.items())
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # the data begins aligned
    with path.open("xb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        file.truncate(file.tell() + sum(tensor.nbytes for tensor in tensors.values()))


def _entries(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, object]:
    entries: dict[str, object] = {}
    offset = 0
    for name, tensor in tensors:
        end = offset + tensor.nbytes
        entries[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    return entries
