"""What the allocator does in an explained run: events with module and lines, and whose each block is.

As for `profiler.measure.history`, torch keeps the events in a ring, which is read and started anew at every
phase's end, so that memory stays bounded.
"""

from __future__ import annotations

import shutil
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from profiler.measure.allocator import live_blocks
from profiler.measure.block_sizes import BlockSizes
from profiler.measure.components import is_workspace, owned_tensors
from profiler.measure.history import MAX_ENTRIES, Names, Ring, short_name
from profiler.measure.marks import ModuleMarks, read_mark
from profiler.records.history import KINDS, EventKind, Stack, append_phase
from profiler.records.trace import LOOP, Mark, Owned, PhaseTrace, TraceEvent
from profiler.virtual.torch_private import DUMP_SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from profiler.measure.allocator import LiveBlock
    from profiler.measure.components import Holdings
    from profiler.measure.phases import Recorder
    from profiler.records.schema import PhaseReading

_MAX_FRAMES = 12
# Lines that stand between the one that asks for memory and the one that meant it.
_BETWEEN = (
    *(
        "profiler/virtual/",
        "profiler/measure/",
        "profiler/execute/",
        "torch/_ops.py",
        "torch/nn/modules/module.py",
    ),
    *("torch/utils/checkpoint.py", "torch/utils/_contextlib.py", "torch/autograd/", "torch/amp/"),
    *("accelerate/utils/operations.py", "transformers/modeling_layers.py", "<string>"),
)


class TraceRecorder:
    """Writes the trace of the current device to a file, a line a phase."""

    def __init__(  # noqa: PLR0913 - what is recorded, and how closely
        self,
        path: Path,
        recorder: Recorder,
        *,
        alloc_conf: str,
        snapshot_path: Path | None = None,
        has_stacks: bool = True,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        """Nothing is recorded before the first phase has ended: recording would make the CUDA context.

        Args:
            path: the file.
            recorder: of the phases; it knows what the job holds.
            alloc_conf: the allocator's settings.
            snapshot_path: receives torch's own snapshot of the phase with the highest peak; None for none.
            has_stacks: whether every event has its Python lines, which take most of the time.
            max_entries: after so many the trace is full, and says so.
        """
        self._path = path
        self._recorder = recorder
        self._snapshot_path = snapshot_path
        self._snapshot_peak_bytes = 0
        self._ring = Ring(max_entries, has_stacks=has_stacks)
        self._marking = ModuleMarks(recorder)
        self._sizes = BlockSizes(alloc_conf)
        self._names = Names()
        self._stacks: dict[Stack, int] = {}
        self._marks: dict[Mark, int] = {}
        self._owned: dict[int, Owned] = {}
        self._frames: dict[tuple[str, int, str], str] = {}
        self._mark_numbers: dict[str, int] = {}

    def continue_in(self, path: Path) -> None:
        """Go on in another file, which begins with all that was written so far."""
        shutil.copyfile(self._path, path)
        self._path = path

    def end_phase(self, reading: PhaseReading) -> None:
        """Write what happened since the last phase's end. The first phase, the context's, has no events."""
        entries = self._ring.read()
        if self._ring.is_full:
            self._marking.close()
            append_phase(self._path, PhaseTrace(**reading.place._asdict(), is_truncated=True))
            return
        append_phase(self._path, self._phase(reading, entries))
        if self._snapshot_path is not None and reading.allocated_peak_bytes > self._snapshot_peak_bytes:
            self._snapshot_peak_bytes = reading.allocated_peak_bytes
            DUMP_SNAPSHOT.find()(str(self._snapshot_path))
        self._ring.begin()

    def _phase(self, reading: PhaseReading, entries: Iterable[Mapping[str, Any]]) -> PhaseTrace:
        num_stacks, num_marks = len(self._stacks), len(self._marks)
        events = tuple(self._events(entries))
        blocks = live_blocks()
        self._sizes.correct({address: block.size_bytes for address, block in blocks.items()})
        found = tuple(self._newly_owned(blocks))
        return PhaseTrace(
            **reading.place._asdict(),
            events=events,
            new_stacks=tuple(self._stacks)[num_stacks:],
            new_marks=tuple(self._marks)[num_marks:],
            owned=found,
        )

    def _events(self, entries: Iterable[Mapping[str, Any]]) -> Iterator[TraceEvent]:
        freed: int | None = None
        for entry in entries:
            kind = KINDS.get(entry["action"])
            if kind is None:
                continue
            address, requested_bytes = entry.get("addr"), int(entry["size"])
            size_bytes = requested_bytes
            if address is not None:
                size_bytes = self._follow(kind, address, size_bytes)
            if not (kind is EventKind.FREE_COMPLETED and address == freed):
                number = self._names.number(kind, address)
                stack = self._stack(entry.get("frames", ()))
                yield TraceEvent(kind, size_bytes, number, stack, self._mark(entry), requested_bytes)
            freed = address if kind is EventKind.FREE else None

    def _follow(self, kind: EventKind, address: int, size_bytes: int) -> int:
        match kind:
            case EventKind.ALLOC:
                return self._sizes.allocated(address, size_bytes)
            case EventKind.FREE_COMPLETED:
                self._sizes.is_free(address)
            case EventKind.SEGMENT_ALLOC:
                self._sizes.segment_began(address, size_bytes)
            case EventKind.SEGMENT_FREE:
                self._sizes.segment_ended(address, size_bytes)
            case _:
                pass
        return size_bytes

    def _stack(self, frames: Sequence[Mapping[str, Any]]) -> int:
        if not frames:
            return self._stacks.setdefault((), len(self._stacks))
        lines = [line for frame in frames if (line := self._line(frame))]
        own = (line for line in lines[_MAX_FRAMES:] if line.startswith(LOOP))
        stack = (*lines[:_MAX_FRAMES], *islice(own, 1))  # however deep it is, the loop's own line is kept
        return self._stacks.setdefault(stack, len(self._stacks))

    def _line(self, frame: Mapping[str, Any]) -> str:
        key = (frame["filename"], frame["line"], frame["name"])
        line = self._frames.get(key)
        if line is None:
            place = short_name(key[0])
            line = self._frames[key] = "" if place.startswith(_BETWEEN) else f"{place}:{key[1]} {key[2]}"
        return line

    def _mark(self, entry: Mapping[str, Any]) -> int:
        text = str(entry.get("user_metadata", ""))
        number = self._mark_numbers.get(text)
        if number is None:
            number = self._marks.setdefault(read_mark(text), len(self._marks))
            self._mark_numbers[text] = number
        return number

    def _newly_owned(self, blocks: Mapping[int, LiveBlock]) -> Iterator[Owned]:
        """What has an owner that is not known yet; a block's address is its own as long as it lives."""
        numbers = {address: self._names.number(EventKind.FREE, address) for address in blocks}
        found = _find_owned(self._recorder.holdings, blocks, numbers)
        for address, block in blocks.items():
            number = numbers[address]
            if number is None:
                continue
            owned = Owned(number, block.size_bytes, *found.get(address, ("", "")))
            if self._owned.get(number) != owned:
                self._owned[number] = owned
                yield owned


def _find_owned(
    holdings: Holdings, blocks: Mapping[int, LiveBlock], numbers: Mapping[int, int | None]
) -> dict[int, tuple[str, str]]:
    """Component and name by address of the blocks in use that belong to something."""
    names = _tensor_names(holdings)
    found: dict[int, tuple[str, str]] = {}
    for component, tensors in owned_tensors(holdings):
        for tensor in tensors:
            address = tensor.untyped_storage().data_ptr()
            if tensor.is_cuda and address in blocks:
                found.setdefault(address, (component.removesuffix("_bytes"), names.get(address, "")))
    workspaces = [address for address in blocks if address not in found and is_workspace(blocks[address])]
    workspaces.sort(key=lambda address: numbers[address] or 0)  # a thread's is made at its first product
    for address in workspaces[: holdings.num_threads_with_workspace]:
        found[address] = ("workspace", "cuBLAS")
    return found


def _tensor_names(holdings: Holdings) -> dict[int, str]:
    """What the tensor that begins at an address is called."""
    named: list[tuple[str, torch.Tensor]] = []
    if holdings.model is not None:
        members = holdings.members()
        for name, parameter in members.named_parameters:
            named += (
                [(name, parameter)] if parameter.grad is None else [(name, parameter), (name, parameter.grad)]
            )
        named += members.named_buffers
    if holdings.optimizer is not None:
        for state in holdings.optimizer.state.values():
            named += [(str(key), value) for key, value in state.items() if isinstance(value, torch.Tensor)]
    for batch in holdings.batches:
        named += batch.items()
    return {tensor.untyped_storage().data_ptr(): name for name, tensor in named if tensor.is_cuda}
