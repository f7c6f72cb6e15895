"""What a file with a trace says: one of ours, or the pickle of a memory snapshot of torch's."""

from __future__ import annotations

import io
import pickle
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler.allocator.traces import Recorded, read_device_trace, recorded_history, recorded_trace
from profiler.errors import ConfigError
from profiler.records.history import EventKind, read_history
from profiler.records.trace import read_trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LINES = (".jsonl", ".jsonl.gz")
_HINT = "docs/replay.md says how a script records one"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFile:
    """A trace that was read.

    Attributes:
        recorded: its events; first what was live already when it began.
        num_before: how many blocks were: they are asked for at once, and so lie closer than they did.
        alloc_conf: the settings that it was recorded under; None where the file does not say.
        capacity_bytes: what the card had for the process, where memory ran out; None where it did not.
    """

    recorded: Sequence[Recorded]
    num_before: int = 0
    alloc_conf: str | None = None
    capacity_bytes: int | None = None


class _WithoutClasses(pickle.Unpickler):
    """Reads numbers, texts, lists and the like; a pickle that names anything to be called is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Nothing is found."""
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_recorded(path: Path, *, device: int | None = None) -> RecordedFile:
    """Reads a file with a trace; nothing in it is executed.

    Args:
        path: a snapshot of torch's, or a history or trace of ours (`.jsonl`, `.jsonl.gz`).
        device: of a snapshot; None for the one that most happened on.

    Raises:
        ConfigError: it cannot be read, or holds no trace.
    """
    try:
        return _read_lines(path) if path.name.endswith(_LINES) else _read_pickle(path, device)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None


def _read_lines(path: Path) -> RecordedFile:
    """A history or trace of ours."""
    try:
        history = read_history(path)
    except (EOFError, zlib.error):
        raise ConfigError(f"{path} is not complete") from None
    recorded = recorded_history(history) if history.phases else recorded_trace(read_trace(path))
    if not recorded:
        raise ConfigError(f"{path} holds no events of the allocator")
    return RecordedFile(recorded=recorded)


def _read_pickle(path: Path, device: int | None) -> RecordedFile:
    """A snapshot of torch's."""
    snapshot = _unpickle(path)
    try:
        return _read_snapshot(snapshot, path, device)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not as torch writes it: {error!r}", hint=_HINT) from None


def _unpickle(path: Path) -> Mapping[str, Any]:
    try:
        snapshot = _WithoutClasses(io.BytesIO(path.read_bytes())).load()
        if isinstance(snapshot, dict) and {"segments", "device_traces"} <= snapshot.keys():
            return snapshot
        reason = "it has no segments and device_traces"
    except OSError:
        raise
    except Exception as error:  # whatever a broken pickle makes of the unpickler
        reason = str(error) or type(error).__name__
    raise ConfigError(f"{path} is no snapshot of torch's: {reason}", hint=_HINT)


def _read_snapshot(snapshot: Mapping[str, Any], path: Path, device: int | None) -> RecordedFile:
    traces = snapshot["device_traces"]
    if device is None:
        device = max(range(len(traces)), key=lambda index: len(traces[index]), default=0)
    entries = traces[device] if device < len(traces) else []
    if not entries:
        raise ConfigError(f"{path} has no events of device {device}", hint=_HINT)
    segments = [segment for segment in snapshot["segments"] if segment["device"] == device]
    before = _live_before(segments, entries)
    recorded = read_device_trace([*before, *entries])
    conf = snapshot.get("allocator_settings", {}).get("PYTORCH_CUDA_ALLOC_CONF")
    return RecordedFile(
        recorded=recorded,
        num_before=len(before),
        alloc_conf=conf,
        capacity_bytes=_capacity(segments, entries),
    )


def _live_before(
    segments: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Requests for the blocks that were in use before the first entry, by address."""
    live = {request["addr"]: request for segment in segments for request in _live_in(segment)}
    for entry in reversed(entries):
        if entry["action"] == "alloc":
            live.pop(entry["addr"], None)
        elif entry["action"] == "free_completed":
            live[entry["addr"]] = {**entry, "action": "alloc"}
    return [live[address] for address in sorted(live)]


def _live_in(segment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Requests for the blocks of a segment that are in use."""
    address = segment["address"]
    for block in segment["blocks"]:
        if block["state"] != "inactive":
            yield {
                "action": "alloc",
                "addr": address,
                "size": block["requested_size"],
                "stream": segment["stream"],
                "pool_id": segment.get("segment_pool_id", (0, 0)),
            }
        address += block["size"]


def _capacity(segments: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> int | None:
    """What was reserved and free where memory ran out first."""
    change = Counter({"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1})
    reserved_bytes = sum(segment["total_size"] for segment in segments)
    capacity_bytes = None
    for entry in reversed(entries):
        if entry["action"] == EventKind.OOM:
            capacity_bytes = reserved_bytes + int(entry.get("device_free", entry.get("addr", 0)))
        reserved_bytes -= change[entry["action"]] * int(entry["size"])
    return capacity_bytes
