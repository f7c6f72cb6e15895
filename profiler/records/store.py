"""Where records are kept: one JSON file each, or a whole study packed into one file."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.files import check_directory, clear_leftovers, locked, write_file
from profiler.records.index import Index, load_record
from profiler.records.migrate import NotARecordError
from profiler.records.naming import record_file_name, short_model
from profiler.records.packed import PACK_NAME, Stored, Unreadable
from profiler.records.schema import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from profiler.records.fingerprint import Identity

__all__ = [
    "RecordStore",
    "Scan",
    "Stored",
    "Unreadable",
    "check_directory",
    "read_record",
    "record_file_name",
    "short_model",
    "write_record",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a study's directory holds.

    Attributes:
        records: one a job and fingerprint, the newest, by file name; of equally old ones the loose file.
        problems: what could not be read, and why; nothing of it was touched.
    """

    records: tuple[Stored, ...]
    problems: tuple[Unreadable, ...]


class RecordStore:
    """The records of one study: `DIR/records/*.json`, and `DIR/records.jsonl.gz` once it is packed.

    Any number of processes may put and read at once: a record is written whole or not at all, and a job and
    its fingerprint name its file, so that no two jobs share one.
    """

    def __init__(self, directory: Path) -> None:
        """Opens the study in `directory`, which need not be there yet."""
        self.directory = directory
        self.records_directory = directory / "records"
        self.pack_path = directory / PACK_NAME
        self._index = Index(self.records_directory, self.pack_path)

    def put(self, record: Record) -> Path:
        """Stores a record in place of an earlier one of the same job and fingerprint; returns its path.

        Raises:
            EnvironmentUnfitError: if it cannot be stored: no room, no permission, no directory.
        """
        return write_record(self.records_directory, record)

    def scan(self) -> Scan:
        """Reads everything at once; what is no record is reported and skipped.

        Raises:
            ConfigError: if the directory itself cannot be read.
        """
        records = tuple(self.read())
        return Scan(records=records, problems=self._index.problems)

    def read(self, identities: Collection[Identity] | None = None) -> Iterator[Stored]:
        """The same records one at a time: of 100,000 no more than one is in memory as a whole.

        What each takes on the disk, squeezed, stays in memory, so that `find` need not read it again.

        Args:
            identities: those that are wanted; None for all.

        Raises:
            ConfigError: if the directory itself cannot be read.
        """
        self._index.renew()
        for place in self._index.places():
            if identities is None or place.identity in identities:
                stored = self._index.read(place)
                if stored is not None:
                    yield stored

    def num_records(self) -> int:
        """How many records there are.

        Raises:
            ConfigError: if the directory itself cannot be read.
        """
        self._index.renew()
        return len(self._index.places())

    def problems(self) -> tuple[Unreadable, ...]:
        """What of the study cannot be read, and why.

        Raises:
            ConfigError: if the directory itself cannot be read.
        """
        self._index.renew()
        return self._index.problems

    def find(self, key: str, fingerprint: str | None, *, name: str = "") -> Record | None:
        """The newest record of a job under a fingerprint; None for none.

        It sees at once what another process has just put, and reads no file that it has read before.

        Args:
            key: of the job.
            fingerprint: of its surroundings.
            name: the file that such a record is put in (`job_file_name`), so that the directory need not be
                searched for it.
        """
        stored = self._index.find((key, fingerprint), name=name)
        return stored.record if stored else None

    def clear_leftovers(self) -> None:
        """Removes what writers that were killed have left of files they were writing."""
        clear_leftovers(self.directory)
        clear_leftovers(self.records_directory)


def write_record(directory: Path, record: Record) -> Path:
    """Writes a record into `directory`, made if missing, whole or not at all; returns the file's path.

    Raises:
        EnvironmentUnfitError: if the record cannot be stored there: no room, no permission, no directory.
    """
    path = directory / record_file_name(record)
    content = record.model_dump_json(indent=2) + "\n"
    with _while_nothing_is_removed(directory):
        write_file(path, content)
    return path


def read_record(path: Path) -> Record:
    """Reads a record, of this schema version or an older one.

    Raises:
        ConfigError: if the file cannot be read or is no such record.
    """
    try:
        return load_record(path)
    except NotARecordError as error:
        raise ConfigError(
            f"{path} is no record: {error}",
            hint=f"this version reads whole records up to schema version {SCHEMA_VERSION}",
        ) from None


@contextlib.contextmanager
def _while_nothing_is_removed(directory: Path) -> Iterator[None]:
    """Keeps `pack --remove` from taking away the file that is being replaced; others may write meanwhile.

    Where there are no locks (some network disks) packing removes nothing.
    """
    with contextlib.ExitStack() as lock:
        with contextlib.suppress(OSError):  # writing says what is wrong
            directory.mkdir(parents=True, exist_ok=True)
            lock.enter_context(locked(directory, is_shared=True))
        yield
