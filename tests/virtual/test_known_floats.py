"""Floats that follow from known values are known; those of weights, data and gradients are not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines

INF = float("inf")


def test_small_floats_that_follow_from_known_values_are_known(virtual_gpu: WarmMachines) -> None:
    seen, num_unknown = virtual_gpu("rtx-4090", _follow_small_floats)
    assert num_unknown == 0
    assert seen == {
        "through float and back": [True, False],
        "causal": [[0.0, -INF], [0.0, 0.0]],
        "filled and cut": [[0.0, -INF], [0.0, 0.0]],
        "resized": [[1, 1, 0, 0], [1, 1, 0, 0]],
        "logarithm": [0.0, -INF],
        "where": [0.0, -8.0],
        "inverted": [0.0, -128.0],
        "mean": 4,
        "like an unknown one": [0.0, 0.0],
        "masked": [[-1.0, 0.0], [0.0, -1.0]],
        "range": [0.0, 0.5, 1.0],
        "into another": [2.0, 2.0],
        "inference": [3.0],
    }


def _follow_small_floats() -> Any:
    from torch.nn.functional import interpolate

    with TrueValues() as values, torch.device("cuda"):
        mask = torch.tensor([1, 0])
        with torch.inference_mode():
            inferred = (torch.ones(1) + 2).tolist()
        seen = {
            "through float and back": mask.bool().float().bool().tolist(),
            "causal": torch.nn.Transformer.generate_square_subsequent_mask(2, torch.device("cuda")).tolist(),
            "filled and cut": torch.empty(2, 2).fill_(-INF).triu_(1).tolist(),
            "resized": interpolate(mask[None, None, None].float(), size=(2, 4))[0, 0].int().tolist(),
            "logarithm": mask.float().log().tolist(),
            "where": torch.where(mask.bool(), 0.0, -8.0).tolist(),
            "inverted": ((1 - mask.to(torch.bfloat16)) * -128).abs().neg().add(0.0).tolist(),
            "mean": int(torch.tensor([3, 5]).float().mean()),
            "like an unknown one": torch.zeros_like(torch.randn(2)).tolist(),
            "masked": torch.zeros(2, 2).masked_fill(torch.eye(2, dtype=torch.bool), -1.0).tolist(),
            "range": torch.linspace(0, 1, 3).tolist(),
            "into another": torch.add(torch.ones(2), 1, out=torch.empty(2)).tolist(),
            "inference": inferred,
        }
        return seen, values.unknown_reads.total


def test_masks_keep_their_truth_up_to_16_mib(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _compare_large_masks) == [True, True, True, 2_098_176, 0]


def _compare_large_masks() -> list[Any]:
    make = torch.nn.Transformer.generate_square_subsequent_mask
    with TrueValues() as values:
        made, copied = make(2048, torch.device("cuda")), make(2048).cuda()
        flags = torch.ones(2048, 2048, dtype=torch.bool, device="cuda").tril()
        count = int((made == 0).sum())
        is_same = [bool((made == copied).all()), bool((flags.float().bool() == flags).all())]
        return [*is_same, bool((made.isinf() != flags).all()), count, values.unknown_reads.total]


def test_of_large_floats_masks_alone_are_kept(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _bring_data) == {
        "image": False,
        "blank image": True,
        "positions": False,
        "too large": False,
    }


def _bring_data() -> dict[str, bool]:
    with TrueValues() as values:
        brought = {
            "image": torch.rand(3, 64, 512).cuda(),
            "blank image": torch.zeros(3, 64, 512).cuda(),
            "positions": torch.arange(1 << 18, device="cuda").float(),
            "too large": torch.zeros((4 << 20) + 1, device="cuda"),
        }
        return {name: values.known.has(tensor) for name, tensor in brought.items()}


def test_zeros_that_nothing_is_written_to_are_true_and_can_be_written_to(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _write_to_zeros) == [0.0, 2048.0, 2048.0, 0.0, 0]


def _write_to_zeros() -> list[Any]:
    with TrueValues() as values:
        zeros = torch.zeros(1024, 1024, device="cuda")
        before = zeros.sum().item()
        part = zeros[3:5].fill_(1.0).sum().item()
        after = zeros.sum().item()
        del zeros
        again = torch.zeros(1024, 1024, device="cuda")
        return [before, part, after, again.sum().item(), values.unknown_reads.total]


def test_what_follows_of_weights_is_unknown(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _ask_weights) == 4


def _ask_weights() -> int:
    with TrueValues() as values:
        layer = torch.nn.Linear(4, 4).cuda()
        layer(torch.ones(1, 4, device="cuda")).tolist()
        (layer.bias * 2).tolist()
        torch.zeros_like(layer.weight).tolist()  # of an optimizer, which writes to it at once
        layer.requires_grad_(False)
        (layer.weight + 1).tolist()
        return values.unknown_reads.total


def test_a_gradient_is_unknown_once_the_engine_has_added_to_it(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _add_to_a_gradient) == [0, 1, 2, 3]


def _add_to_a_gradient() -> list[int]:
    with TrueValues() as values:
        weight = torch.nn.Parameter(torch.randn(4, device="cuda"))
        weight.grad = torch.ones(4, device="cuda")
        counts = []

        def ask() -> None:
            assert weight.grad is not None
            weight.grad.sum().item()
            counts.append(values.unknown_reads.total)

        ask()
        (weight * 2).sum().backward()
        ask()
        weight.grad.zero_()
        (weight * 2).sum().backward()
        ask()
        (weight * 2).sum().backward()
        ask()
        return counts


def test_running_statistics_are_unknown_once_a_batch_went_through(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _normalize_a_batch) == [[1.0, 1.0], 0, [0.0, 0.0], 1]


def _normalize_a_batch() -> list[Any]:
    torch.backends.cudnn.enabled = False
    with TrueValues() as values:
        norm = torch.nn.BatchNorm1d(2).cuda()
        assert norm.running_var is not None
        first = [norm.running_var.tolist(), values.unknown_reads.total]
        norm(torch.randn(4, 2, device="cuda"))
        return [*first, norm.running_var.tolist(), values.unknown_reads.total]


def test_weights_of_a_file_are_not_looked_at(virtual_gpu: WarmMachines) -> None:
    """In shared memory a page of a file without data takes room from when it is first read."""
    assert virtual_gpu("rtx-4090", _load_weights) == {"pages": 0, "is known": False, "mask": [1.0]}


def _load_weights() -> Any:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file, TrueValues() as values:
        _make_hollow(Path(file.name))
        with safe_open(file.name, "pt") as weights:
            loaded = weights.get_tensor("weight").to("cuda")
        mask = torch.ones(200, 200).to("cuda")
        return {
            "pages": Path(file.name).stat().st_blocks - 8,  # the first one, of the header
            "is known": values.known.has(loaded),
            "mask": mask.unique().tolist(),
        }


def _make_hollow(path: Path) -> None:
    """Makes a file a checkpoint of one tensor of 4 MiB that holds no data."""
    weight = {"dtype": "F32", "shape": [1024, 1024], "data_offsets": [0, 4 << 20]}
    header = json.dumps({"weight": weight}).encode()
    with path.open("r+b") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (4 << 20))
