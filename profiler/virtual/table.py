"""Which storages of a virtual device are known, which may be, and their bytes as the CPU sees them.

A storage is *known* while this table says so, and memory of unknown storages is always zero: a storage that
dies, or that an unknown value is written to, is wiped.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual.torch_private import OVERLAP

if TYPE_CHECKING:
    from collections.abc import Iterable

KNOWN_LIMIT_BYTES = 16 << 20
"""Integer and boolean storages up to this size are kept true; csrc/copies.c knows the same figure."""
KEPT_FLOAT_LIMIT_BYTES = 64 << 10
"""Floating-point data copied from the host is kept up to this size, so that constants make the round trip."""

_overlap = OVERLAP.find()
INTEGRAL = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


class KnownStorages:
    """The storages whose values are true, by address."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[int, weakref.finalize[Any, Any]] = {}
        self._largest_bytes = 0
        """The largest storage that has been known so far."""
        library = ctypes.CDLL(None)  # the stand-in, which was loaded before all else
        self._open = library.vgpu_open
        self._recall = library.vgpu_recall
        self._wipe = library.vgpu_wipe
        for function in (self._open, self._recall, self._wipe):
            function.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self._wipe.restype = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def has(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor's values are known; of a sparse one they are not."""
        if tensor.layout is not torch.strided:
            return False
        return address_of(tensor) in self._known or tensor.numel() == 0

    def add(self, tensor: torch.Tensor) -> bool:
        """Take a tensor's storage in, and have its memory writable; False where that cannot be."""
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if size == 0 or address in self._known:
            return True
        if self._open(address, size) != 0:
            return False
        watch = weakref.finalize(storage, self._release, address, size)
        watch.atexit = False
        self._known[address] = watch
        self._largest_bytes = max(self._largest_bytes, size)
        return True

    def recall(self, tensor: torch.Tensor) -> bool:
        """Take in what this thread has just copied to a tensor from the host; False where it is forgotten."""
        storage = tensor.untyped_storage()
        if self.add(tensor) and self._recall(storage.data_ptr(), storage.nbytes()) == 0:
            return True
        self.drop([tensor])
        return False

    def drop(self, tensors: Iterable[torch.Tensor]) -> None:
        """The values of tensors are no longer known."""
        for tensor in tensors:
            # What is larger than they all is in none; an optimizer's step writes to hundreds of such tensors.
            if tensor.nbytes <= self._largest_bytes:
                self.drop_at(address_of(tensor))

    def drop_at(self, address: int) -> None:
        """What a storage that began there held is no longer known."""
        if (watch := self._known.get(address)) is not None:
            watch()

    def _release(self, address: int, size: int) -> None:
        del self._known[address]
        self._wipe(address, size)


def can_keep(tensor: torch.Tensor, *, is_copy: bool) -> bool:
    """Whether its values are to be known, where they can be; floating-point ones only of a copy."""
    size = tensor.untyped_storage().nbytes()
    if tensor.dtype in INTEGRAL:
        return size <= KNOWN_LIMIT_BYTES
    return is_copy and size <= KEPT_FLOAT_LIMIT_BYTES


def fills_storage(tensor: torch.Tensor) -> bool:
    """Whether it is all of its storage, each place once."""
    is_whole = tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
    return is_whole and _overlap(tensor) == 0


def address_of(tensor: torch.Tensor) -> int:
    """Where its storage begins."""
    return tensor.untyped_storage().data_ptr()


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The same bytes as a tensor of the CPU: to write to them, the storage must be known."""
    storage = tensor.untyped_storage()
    count = storage.nbytes() // tensor.element_size()
    if count == 0:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    buffer = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    flat = torch.frombuffer(buffer, dtype=tensor.dtype, count=count)
    return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def to_host(value: Any) -> Any:
    """An operation's arguments as it takes them on the CPU, over the same bytes."""
    match value:
        case torch.Tensor():
            return on_host(value) if value.is_cuda else value
        case torch.device():
            return torch.device("cpu")
        case list() | tuple():
            return type(value)(to_host(item) for item in value)
        case dict():
            return {name: to_host(item) for name, item in value.items()}
        case _:
            return value
