"""Which storages of a virtual device are known, which may be, and their bytes as the CPU sees them.

A storage is *known* while this table says so, and memory of unknown storages is always zero: a storage that
dies, or that an unknown value is written to, is wiped.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual.torch_private import OVERLAP, num_writes

if TYPE_CHECKING:
    from collections.abc import Iterable

KNOWN_LIMIT_BYTES = 16 << 20
"""Storages up to this size may be kept true; csrc/copies.c knows the same figure."""
SMALL_FLOATS_BYTES = 64 << 10
"""Floating-point values are kept up to this size whatever they are; above it, masks are."""
_MASK_VALUES = 16
"""Above it, floating-point values are taken for a mask where no more than these are found in a sample."""
_SAMPLE = 1024

_overlap = OVERLAP.find()
INTEGRAL = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


class KnownStorages:
    """The storages whose values are true, by address."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[int, weakref.finalize[Any, Any]] = {}
        self._versions: dict[int, int] = {}
        """How often floating-point storages had been written to, by torch's own count: the autograd engine
        adds to gradients unseen."""
        self._unopened: set[int] = set()
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
        """Whether a tensor's values are known; of a sparse one they are not.

        Those that something unseen has written to since are no longer.
        """
        if tensor.layout is not torch.strided:
            return False
        address = address_of(tensor)
        if address in self._known:
            version = self._versions.get(address)
            # Copies of whole storages see them as bytes, and count for themselves.
            if version is None or tensor.dtype in INTEGRAL or version == num_writes(tensor):
                return True
            self.drop_at(address)
        return tensor.numel() == 0

    def add(self, tensor: torch.Tensor, *, is_written: bool = False) -> bool:
        """Take a tensor's storage in, and have its memory writable; False where that cannot be.

        Args:
            tensor: one that shows it.
            is_written: torch is about to count a write to it.
        """
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if size == 0:
            return True
        if address not in self._known or address in self._unopened:
            if self._open(address, size) != 0:
                return False
            self._unopened.discard(address)
        self._enter(tensor, is_written=is_written)
        return True

    def add_zeros(self, tensor: torch.Tensor) -> None:
        """Take a storage in that nothing was written to, and that holds zeros: its memory is left alone."""
        address = address_of(tensor)
        if tensor.numel() and address not in self._known:
            self._unopened.add(address)
            self._enter(tensor, is_written=False)

    def _enter(self, tensor: torch.Tensor, *, is_written: bool) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if tensor.dtype not in INTEGRAL:
            self._versions[address] = num_writes(tensor) + is_written
        if address not in self._known:
            watch = weakref.finalize(storage, self._release, address, size)
            watch.atexit = False
            self._known[address] = watch
            self._largest_bytes = max(self._largest_bytes, size)

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
        self._versions.pop(address, None)
        if address in self._unopened:
            self._unopened.remove(address)
        else:
            self._wipe(address, size)


def can_keep(tensor: torch.Tensor) -> bool:
    """Whether a storage is small enough for its values to be known."""
    return tensor.untyped_storage().nbytes() <= KNOWN_LIMIT_BYTES


def is_small(tensor: torch.Tensor) -> bool:
    """Whether its values are to be known, where they can be, whatever they are."""
    is_integral = tensor.dtype in INTEGRAL
    return tensor.untyped_storage().nbytes() <= (KNOWN_LIMIT_BYTES if is_integral else SMALL_FLOATS_BYTES)


def is_worth_keeping(values: torch.Tensor) -> bool:
    """Whether values on the host are to be known: of many floating-point ones those of a mask alone."""
    if values.dtype in INTEGRAL or values.nbytes <= SMALL_FLOATS_BYTES:
        return True
    step = values.numel() // _SAMPLE | 1  # odd, so that no column of a matrix stands for it all
    sample = values.reshape(-1)[::step]
    return not sample.is_complex() and len(sample.float().unique()) <= _MASK_VALUES


def is_foreign(values: torch.Tensor) -> bool:
    """Whether many floating-point values on the host are of a file that is mapped, or of another library.

    They are not looked at: they are weights, and of a checkpoint without data every page that is looked at
    begins to take memory (`safetensors` gives such storages, which torch can give no other size).
    """
    is_large = values.dtype not in INTEGRAL and values.nbytes > SMALL_FLOATS_BYTES
    return is_large and not values.untyped_storage().resizable()


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
