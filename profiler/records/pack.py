"""How a finished study becomes one file that reads the same."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.files import locked, reason_of, write_chunks
from profiler.records.fingerprint import identity_of
from profiler.records.migrate import NotARecordError, parse_record
from profiler.records.packed import PackError, pack_pieces, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from profiler.records.fingerprint import Identity
    from profiler.records.packed import Unreadable
    from profiler.records.schema import Record
    from profiler.records.store import RecordStore

_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What packing did.

    Attributes:
        path: the packed file.
        num_records: how many records it holds.
        num_bytes: the size of that file.
        removed: the loose files that are gone because the packed one holds them.
        problems: the files that are no records, left where they are.
    """

    path: Path
    num_records: int
    num_bytes: int
    removed: tuple[Path, ...]
    problems: tuple[Unreadable, ...]


def pack_study(store: RecordStore, *, remove: bool = False) -> Packed:
    """Writes every record of a study into one file, the loose ones and those packed before.

    The file is read back and compared before anything else is done. The same records give the same bytes.
    The study is locked meanwhile: of two that pack it the second waits for the first. A sweep may go on. A
    process that is killed in between leaves every record loose, packed or both, which is the same.

    Args:
        store: the study.
        remove: then delete the loose files it holds; one that was changed meanwhile stays.

    Raises:
        ConfigError: if there is no record to pack, or an earlier pack cannot be read and would be lost.
        EnvironmentUnfitError: if the file cannot be written, or does not read the same; if another process
            keeps the study locked, or files are to be removed and it cannot be locked.
    """
    with _alone(store.directory, must_lock=remove):
        store.clear_leftovers()
        problems = store.problems()
        _check(store, problems)
        packed: dict[Identity, bytes] = {}
        write_chunks(store.pack_path, pack_pieces(_lines(store, packed)))
        _verify(store.pack_path, packed)
        loose = _loose_files(store) if remove else []
        return Packed(
            path=store.pack_path,
            num_records=len(packed),
            num_bytes=store.pack_path.stat().st_size,
            removed=tuple(path for path in loose if _remove_packed(path, packed)),
            problems=problems,
        )


@contextmanager
def _alone(directory: Path, *, must_lock: bool) -> Iterator[None]:
    """Keeps other processes from packing the same study, and from noting their sweeps in it."""
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(directory, wait_s=_WAIT_S))
        except TimeoutError:
            raise EnvironmentUnfitError(
                f"another process is packing {directory}", hint="try again once it has ended"
            ) from None
        except FileNotFoundError:
            pass  # there is no record to pack
        except OSError as error:
            if must_lock:
                hint = "pack without --remove, or on a disk that has locks"
                raise EnvironmentUnfitError(
                    f"cannot lock {directory}: {reason_of(error)}", hint=hint
                ) from error
        yield


def _check(store: RecordStore, problems: tuple[Unreadable, ...]) -> None:
    for problem in problems:
        if problem.path == store.pack_path:
            hint = "packing again would lose that: mend it from a copy, or move it away"
            raise ConfigError(f"{problem.path}: {problem.reason}", hint=hint)
    if not store.num_records():
        raise ConfigError(f"there is no record in {store.directory}", hint="a sweep puts them there")


def _lines(store: RecordStore, packed: dict[Identity, bytes]) -> Iterator[bytes]:
    """The line of every record; `packed` is told the digest of each as it goes."""
    for stored in store.read():
        line = _line(stored.record)
        packed[identity_of(stored.record)] = _digest(line)
        yield line


def _verify(path: Path, packed: Mapping[Identity, bytes]) -> None:
    try:
        read_back = [_digest(_line(parse_record(line))) for line in read_lines(path)]
    except (PackError, NotARecordError, FileNotFoundError):
        read_back = []
    if read_back != list(packed.values()):
        raise EnvironmentUnfitError(f"{path} does not read as it was written", hint="the disk may be failing")


def _loose_files(store: RecordStore) -> list[Path]:
    directory = store.records_directory
    return sorted(directory.glob("[!.]*.json")) if directory.is_dir() else []


def _remove_packed(path: Path, packed: Mapping[Identity, bytes]) -> bool:
    """Removes a loose file whose record is packed, and no other that is put in its place at this moment."""
    with locked(path.parent):
        try:
            record = parse_record(path.read_bytes())
        except (OSError, NotARecordError):
            return False
        if packed.get(identity_of(record)) != _digest(_line(record)):
            return False
        path.unlink()
        return True


def _line(record: Record) -> bytes:
    return record.model_dump_json().encode()


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()
