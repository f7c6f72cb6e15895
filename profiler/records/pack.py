"""How a finished study becomes one file that reads the same."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.files import write_file
from profiler.records.fingerprint import identity_of
from profiler.records.migrate import NotARecordError, parse_record
from profiler.records.packed import Stored, pack_bytes, read_pack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from profiler.records.fingerprint import Identity
    from profiler.records.packed import Unreadable
    from profiler.records.schema import Record
    from profiler.records.store import RecordStore


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

    Args:
        store: the study.
        remove: then delete the loose files it holds; one that was changed meanwhile stays.

    Raises:
        ConfigError: if there is no record to pack, or an earlier pack cannot be read and would be lost.
        EnvironmentUnfitError: if the file cannot be written, or does not read the same.
    """
    scan = store.scan()
    for problem in scan.problems:
        if problem.path == store.pack_path:
            hint = "packing again would lose that: mend it from a copy, or move it away"
            raise ConfigError(f"{problem.path}: {problem.reason}", hint=hint)
    if not scan.records:
        raise ConfigError(f"there is no record in {store.directory}", hint="a sweep puts them there")
    records = [stored.record for stored in scan.records]
    content = pack_bytes(records)
    write_file(store.pack_path, content)
    _verify(store.pack_path, records)
    packed = {identity_of(record): record for record in records}
    loose = _loose_files(store) if remove else []
    return Packed(
        path=store.pack_path,
        num_records=len(records),
        num_bytes=len(content),
        removed=tuple(path for path in loose if _remove_packed(path, packed)),
        problems=scan.problems,
    )


def _verify(path: Path, records: list[Record]) -> None:
    read_back = [item.record if isinstance(item, Stored) else item for item in read_pack(path)]
    if read_back != records:
        raise EnvironmentUnfitError(f"{path} does not read as it was written", hint="the disk may be failing")


def _loose_files(store: RecordStore) -> list[Path]:
    directory = store.records_directory
    return sorted(directory.glob("[!.]*.json")) if directory.is_dir() else []


def _remove_packed(path: Path, packed: Mapping[Identity, Record]) -> bool:
    """Removes a loose file whose record is packed; one put anew at this moment is not lost."""
    try:
        content = path.read_bytes()
        record = parse_record(content)
    except (OSError, NotARecordError):
        return False
    if packed.get(identity_of(record)) != record:
        return False
    aside = path.with_name(f".{path.name}.packed")
    path.rename(aside)
    is_unchanged = aside.read_bytes() == content
    if not is_unchanged:
        with contextlib.suppress(FileExistsError):  # a still newer one has taken its place
            path.hardlink_to(aside)
    aside.unlink()
    return is_unchanged
