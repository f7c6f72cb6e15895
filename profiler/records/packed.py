"""What a packed study is: every record in one compressed file, a line each."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.files import reason_of
from profiler.records.migrate import NotARecordError, parse_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from profiler.records.schema import Record

PACK_NAME = "records.jsonl.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A record, and the file it is in."""

    path: Path
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A file, or a line of a packed one, that was skipped, and why."""

    path: Path
    reason: str


def pack_bytes(records: Iterable[Record]) -> bytes:
    """The bytes of a packed study: the same records in the same order give the same bytes."""
    lines = "".join(f"{record.model_dump_json()}\n" for record in records)
    return gzip.compress(lines.encode(), mtime=0)


def read_pack(path: Path, *, key: str = "") -> Iterator[Stored | Unreadable]:
    """Reads a packed study; nothing where there is none.

    Args:
        path: the packed file.
        key: read the records of this job alone; empty for all.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).splitlines()
    except FileNotFoundError:
        return
    except (OSError, EOFError, zlib.error) as error:
        yield Unreadable(path=path, reason=_why_unreadable(error))
        return
    for number, line in enumerate(lines, start=1):
        if key.encode() not in line:
            continue
        try:
            yield Stored(path=path, record=parse_record(line))
        except NotARecordError as error:
            yield Unreadable(path=path, reason=f"line {number}: {error}")


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return f"it cannot be read: {reason_of(error)}"
    return "it is cut short or damaged"
