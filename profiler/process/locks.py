"""Who runs what: locks that the kernel lets go of when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError
from profiler.files import reason_of

if TYPE_CHECKING:
    from pathlib import Path

_MAX_TRIES = 100


class Locks(ExitStack):
    """Named locks in a directory, each held by at most one process.

    Jobs are locked in their study's directory, so that two sweeps of one study share the work; cards in one
    of the user's own (`profiler.process.leases`).
    """

    def __init__(self, directory: Path, *, is_private: bool = False) -> None:
        """Locks will be files in `directory`, made if missing; `is_private` for this user's alone."""
        super().__init__()
        self._directory = directory
        self._is_private = is_private
        self._held: dict[str, int] = {}
        self.callback(self._release_all)

    def take(self, name: str) -> bool:
        """Hold the lock of this name; False if another process holds it.

        Raises:
            EnvironmentUnfitError: the directory cannot be written to.
        """
        while True:
            descriptor = self._open_file(name)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if self._is_current(descriptor, name):
                self._held[name] = descriptor
                with suppress(OSError):  # a full disk: nobody will know by whom it is held
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, str(os.getpid()).encode())
                return True
            os.close(descriptor)  # its holder let go of it, and removed the file, just now

    def holds(self, name: str) -> bool:
        """Whether the lock of this name is held here."""
        return name in self._held

    def holder(self, name: str) -> int | None:
        """The process that holds a lock; None where that is not known (any more)."""
        with suppress(OSError, ValueError):  # it has just let go of it, or taken it
            return int(self._path(name).read_text())
        return None

    def release(self, name: str) -> None:
        """Let go of a lock, if it is held here."""
        if (descriptor := self._held.pop(name, None)) is None:
            return
        self._path(name).unlink(missing_ok=True)  # while it is still locked, so that nobody's file is removed
        os.close(descriptor)

    def _release_all(self) -> None:
        for name in list(self._held):
            self.release(name)
        with suppress(FileNotFoundError, EnvironmentUnfitError):  # whoever is last removes the directory
            for path in list(self._directory.glob("*.lock")):  # of runs that were killed
                if self.take(path.stem):
                    self.release(path.stem)
        with suppress(OSError):  # others hold locks in it, or it was never made
            self._directory.rmdir()

    def _open_file(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        num_tries = 0
        while True:
            num_tries += 1
            try:
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                if self._is_private:
                    self._check_ours()
                return os.open(self._path(name), flags, 0o600)
            except OSError as error:
                # Whoever is last of several removes the directory, perhaps while it is made here.
                if isinstance(error, FileNotFoundError | FileExistsError) and num_tries < _MAX_TRIES:
                    continue
                raise EnvironmentUnfitError(
                    f"cannot write to {self._directory}: {reason_of(error)}",
                    hint="free some room, or choose another place with --out",
                ) from error

    def _check_ours(self) -> None:
        """Where everybody may write, somebody else may have made the directory first, or a link."""
        status = self._directory.lstat()
        is_directory = stat.S_ISDIR(status.st_mode)
        if not is_directory or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise EnvironmentUnfitError(
                f"{self._directory} is not a directory of yours alone",
                hint="remove it, or set TMPDIR to a directory of your own",
            )

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.lock"

    def _is_current(self, descriptor: int, name: str) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path(name).stat())
        except FileNotFoundError:
            return False
