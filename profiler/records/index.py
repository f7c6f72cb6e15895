"""Where each record of a study is: found by reading every file once, and again only where it has changed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from profiler.errors import ConfigError
from profiler.files import reason_of
from profiler.records.fingerprint import identity_of
from profiler.records.migrate import NotARecordError, parse_record
from profiler.records.naming import job_file_name
from profiler.records.packed import PackError, Stored, Unreadable, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from profiler.records.fingerprint import Identity
    from profiler.records.schema import Record

_MAX_BAD_LINES = 1000
_LIKENESS_BYTES = 16 * 1024
_Stamp: TypeAlias = tuple[int, int, int]
"""When a file was changed, its size and its number on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record is.

    Attributes:
        identity: the job and its surroundings.
        name: by which it is sorted among others.
        created_at: when its run began.
        file: the name of its own file; empty where it is packed.
        pack: the pack it is in, if it is.
        line: the packed line, squeezed.
    """

    identity: Identity
    name: str
    created_at: datetime
    file: str = ""
    pack: _Pack | None = None
    line: bytes = b""


@dataclass(slots=True)
class _Pack:
    """What the pack held when it was read; its lines stay here, so that each is at hand in no time."""

    stamp: _Stamp | None = None
    places: dict[Identity, Place] = field(default_factory=dict)
    problems: list[Unreadable] = field(default_factory=list)
    likeness: bytes = b""  # the first line, which all others are like

    def squeeze(self, line: bytes) -> bytes:
        if not self.places:
            self.likeness = line[-_LIKENESS_BYTES:]
        squeezer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=self.likeness)
        return squeezer.compress(line) + squeezer.flush()

    def restore(self, line: bytes) -> bytes:
        return zlib.decompressobj(-zlib.MAX_WBITS, zdict=self.likeness).decompress(line)


class Index:
    """The records of a study: one a job and fingerprint, the newest; of equally old ones the loose file."""

    def __init__(self, records_directory: Path, pack_path: Path) -> None:
        """Nothing is read yet."""
        self._directory = records_directory
        self._pack_path = pack_path
        self._pack = _Pack()
        self._loose: dict[str, tuple[_Stamp, Place | Unreadable]] = {}
        self._files: dict[Identity, list[str]] = {}
        self._is_read = False

    @property
    def problems(self) -> tuple[Unreadable, ...]:
        """What could not be read when it was looked at last, the loose files first."""
        loose = (found for _, found in sorted(self._loose.items()))
        return (*(place for _, place in loose if isinstance(place, Unreadable)), *self._pack.problems)

    def renew(self) -> None:
        """Reads what is new or changed.

        Raises:
            ConfigError: if the directory itself cannot be read.
        """
        names = set(self._list())
        for gone in self._loose.keys() - names:
            self._forget(gone)
        for name in sorted(names):
            self._look_at(name)
        self._read_pack()  # last: what is packed in this moment is here or there
        self._is_read = True

    def places(self) -> list[Place]:
        """All records, by name."""
        return sorted(map(self._newest, self._pack.places.keys() | self._files), key=_by_name)

    def find(self, identity: Identity, *, name: str = "") -> Stored | None:
        """The newest record of a job and fingerprint, as it is in the files now; None if there is none.

        Args:
            identity: the job and the fingerprint.
            name: the file that such a record is put in, so that no directory need be listed.
        """
        if self._is_read:
            for file in (name,) if name else self._named_after(identity[0]):
                self._look_at(file)
            self._read_pack()
        else:
            self.renew()
        while identity in self._files or identity in self._pack.places:
            place = self._newest(identity)
            stored = self._load(place)
            if stored is not None:
                return stored
            self._look_at(place.file)  # it was packed in this moment
            self._read_pack()
        return None

    def read(self, place: Place) -> Stored | None:
        """The record of a place, or the one that has taken its place since; None if it is gone."""
        return self._load(place) or self.find(place.identity)

    def _load(self, place: Place) -> Stored | None:
        if place.pack is not None:
            return Stored(path=self._pack_path, record=parse_record(place.pack.restore(place.line)))
        path = self._directory / place.file
        try:
            record = load_record(path)
        except NotARecordError:
            return None
        return Stored(path=path, record=record) if identity_of(record) == place.identity else None

    def _newest(self, identity: Identity) -> Place:
        found = [self._loose[name][1] for name in sorted(self._files.get(identity, ()))]
        places = [place for place in found if isinstance(place, Place)]
        if identity in self._pack.places:
            places.append(self._pack.places[identity])
        return max(places, key=_by_age)  # the first of equals

    # ---- the loose files ----

    def _list(self) -> Iterator[str]:
        try:
            # A name with a dot in front is a record on its way, or the rest of a writer that was killed.
            yield from (path.name for path in self._directory.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"cannot read {self._directory}: {reason_of(error)}") from error

    def _named_after(self, key: str) -> list[str]:
        return [path.name for path in self._directory.glob(f"[!.]*--{key}*.json")]

    def _look_at(self, name: str) -> None:
        path = self._directory / name
        stamp = _stamp_of(path)
        if stamp is None:
            self._forget(name)
        elif name not in self._loose or self._loose[name][0] != stamp:
            self._forget(name)
            self._keep(name, stamp)

    def _keep(self, name: str, stamp: _Stamp) -> None:
        path = self._directory / name
        try:
            record = load_record(path)
        except NotARecordError as error:
            if _stamp_of(path) is not None:  # else it was packed in this moment
                self._loose[name] = stamp, Unreadable(path=path, reason=str(error))
            return
        place = _place_of(record, file=name)
        self._loose[name] = stamp, place
        self._files.setdefault(place.identity, []).append(name)

    def _forget(self, name: str) -> None:
        _, place = self._loose.pop(name, (None, None))
        if isinstance(place, Place):
            self._files[place.identity].remove(name)
            if not self._files[place.identity]:
                del self._files[place.identity]

    # ---- the pack ----

    def _read_pack(self) -> None:
        stamp = _stamp_of(self._pack_path)
        if stamp is None:
            self._pack = _Pack()
        elif stamp != self._pack.stamp:
            self._pack = _Pack(stamp=stamp)
            try:
                self._read_pack_lines()
            except FileNotFoundError:
                self._pack = _Pack()
            except PackError as error:
                problem = Unreadable(path=self._pack_path, reason=str(error))
                self._pack = _Pack(stamp=stamp, problems=[problem])

    def _read_pack_lines(self) -> None:
        pack = self._pack
        for number, line in enumerate(read_lines(self._pack_path), start=1):
            try:
                place = _place_of(parse_record(line), pack=pack, line=pack.squeeze(line))
            except NotARecordError as error:
                pack.problems.append(Unreadable(path=self._pack_path, reason=f"line {number}: {error}"))
                if len(pack.problems) > _MAX_BAD_LINES:
                    raise PackError(f"more than {_MAX_BAD_LINES} lines of it are no records") from None
                continue
            known = pack.places.setdefault(place.identity, place)
            if place.created_at > known.created_at:
                pack.places[place.identity] = place


def load_record(path: Path) -> Record:
    """Reads one loose file.

    Raises:
        NotARecordError: if it cannot be read, or is no record.
    """
    try:
        return parse_record(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotARecordError(f"it cannot be read: {reason_of(error)}") from None
    except UnicodeDecodeError:
        raise NotARecordError("it is not UTF-8 text") from None


def _place_of(record: Record, *, file: str = "", pack: _Pack | None = None, line: bytes = b"") -> Place:
    key, fingerprint = identity_of(record)
    return Place(
        identity=(key, fingerprint),
        name=job_file_name(record.spec, record.device, key=key, fingerprint=fingerprint),
        created_at=record.created_at,
        file=file,
        pack=pack,
        line=line,
    )


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _by_name(place: Place) -> str:
    return place.name


def _by_age(place: Place) -> datetime:
    return place.created_at
