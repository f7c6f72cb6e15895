"""What a job puts on the host, counted and not made beside a virtual card.

The logits of an evaluation and the weights of a saved model may take more than the machine has that runs the
job virtually, and nothing on the card hangs on what becomes of them. A checkpoint is read as ever: its pages,
which no virtual card looks into, are counted as a real run's.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import peft.peft_model
import torch
import transformers.modeling_utils
import transformers.trainer_pt_utils

from profiler.measure.host import ComputedHost
from profiler.virtual.torch_private import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from profiler.measure.host import HostMeter

_FLOAT32_BYTES = 4


@contextmanager
def count_host_copies(host: HostMeter) -> Iterator[None]:
    """While this lasts, transformers' and peft's copies to the host are counted where they would be made.

    Args:
        host: what counts them; with any other meter than one that computes, all is as ever.
    """
    if not isinstance(host, ComputedHost):
        yield
        return
    modeling: Any = transformers.modeling_utils
    with ExitStack() as counted:
        opened = _opener(host, modeling.safe_open)
        counted.enter_context(replaced(modeling, "safe_open", opened))
        for module in (modeling, peft.peft_model):
            counted.enter_context(replaced(module, "safe_save_file", _saver(host)))
        container: Any = transformers.trainer_pt_utils.EvalLoopContainer
        counted.enter_context(replaced(container, "to_cpu_and_numpy", _gatherer(host)))
        yield


def _opener(host: ComputedHost, safe_open: Callable[..., Any]) -> Callable[..., Any]:
    def opened(file: str | Path, *arguments: Any, **options: Any) -> Any:
        return _OpenCheckpoint(host, Path(file), safe_open(file, *arguments, **options))

    return opened


class _OpenCheckpoint:
    """A file of a checkpoint: safetensors maps it into memory, where its pages stay until it is closed."""

    def __init__(self, host: ComputedHost, path: Path, opened: Any) -> None:
        self._host = host
        self._size_bytes = path.stat().st_size
        self._opened = opened
        host.map(self._size_bytes)

    def __enter__(self) -> Self:
        self._opened.__enter__()
        return self

    def __exit__(self, *ending: object) -> None:
        self._host.map(-self._size_bytes)
        self._opened.__exit__(*ending)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)


def _saver(host: ComputedHost) -> Callable[..., None]:
    """In place of safetensors' `save_file`, which puts all tensors of a file on the host first."""

    def save_file(tensors: Mapping[str, torch.Tensor], *_: object, **__: object) -> None:
        host.pass_through(sum(tensor.nbytes for tensor in tensors.values() if tensor.is_cuda))

    return save_file


def _gatherer(host: ComputedHost) -> Callable[..., None]:
    """In place of `EvalLoopContainer.to_cpu_and_numpy`, whose arrays stay on the host until they are told."""

    def to_cpu_and_numpy(container: Any) -> None:
        if container.tensors is None:
            return
        tensors, container.tensors = container.tensors, None
        before_bytes = getattr(container, "held_bytes", 0)
        new_bytes = _as_arrays(host, tensors)
        if before_bytes and container.do_nested_concat:  # one array of both is made beside them
            host.pass_through(before_bytes + new_bytes)
        container.held_bytes = before_bytes + new_bytes

    return to_cpu_and_numpy


def _as_arrays(host: ComputedHost, tensors: Any) -> int:
    """Counts tensors as they become arrays of the host, one after the other; their bytes there."""
    if isinstance(tensors, dict):
        tensors = tuple(tensors.values())
    if isinstance(tensors, list | tuple):
        return sum(_as_arrays(host, tensor) for tensor in tensors)
    size_bytes = int(tensors.nbytes)
    if tensors.dtype is torch.bfloat16:  # numpy has no such type: a float32 copy is made of the copy
        host.pass_through(size_bytes + _FLOAT32_BYTES * tensors.numel())
        size_bytes = _FLOAT32_BYTES * tensors.numel()
    host.take(size_bytes)
    return size_bytes
