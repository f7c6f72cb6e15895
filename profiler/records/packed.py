"""What a packed study is: every record in one compressed file, a line each, read and written as a stream."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from profiler.errors import EnvironmentUnfitError
from profiler.files import reason_of
from profiler.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from profiler.records.schema import Record

PACK_NAME = "records.jsonl.gz"
MAX_LINE_BYTES: Final = 64 * MIB
"""The longest line of a pack: over ten thousand times what a record usually takes."""
MAX_PACK_BYTES: Final = 16 * GIB
"""The most that a pack may hold, uncompressed: some three million records."""

_PIECE_BYTES = 1 * MIB
_GZIP = 16 + zlib.MAX_WBITS  # what zlib takes for the format of gzip


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


class PackError(ValueError):
    """Why a packed study cannot be read, or no longer from some point on."""


def pack_pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a packed study, piece by piece: the same lines in the same order give the same bytes.

    Raises:
        EnvironmentUnfitError: if a line, or all of them, are more than can be read again.
    """
    squeeze = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    piece, num_bytes = bytearray(), 0
    for line in lines:
        num_bytes += len(line) + 1
        if len(line) >= MAX_LINE_BYTES or num_bytes > MAX_PACK_BYTES:
            raise EnvironmentUnfitError("the records are too large for one packed file")
        piece += squeeze.compress(line + b"\n")
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + squeeze.flush()


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a packed study, one at a time.

    A small file may unpack to any size: what is longer than any record's line, or more than any study, is
    refused as soon as it is met.

    Raises:
        FileNotFoundError: if there is none.
        PackError: if it cannot be read, or not to its end.
    """
    num_bytes = 0
    try:
        with gzip.open(path) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                num_bytes += len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise PackError(f"a line of it unpacks to more than {MAX_LINE_BYTES // MIB} MiB")
                if num_bytes > MAX_PACK_BYTES:
                    raise PackError(f"it unpacks to more than {MAX_PACK_BYTES // GIB} GiB")
                yield line.rstrip(b"\r\n")
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise PackError(_why_unreadable(error)) from None


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return f"it cannot be read: {reason_of(error)}"
    return "it is cut short or damaged"
