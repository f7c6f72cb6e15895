"""How a file is written: whole or not at all, and where it is a result, with a clear word if it cannot be."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, BinaryIO

from profiler.errors import ConfigError, EnvironmentUnfitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_TEMPORARY = ".peakvram.tmp"
_LOOK_AGAIN_S = 0.02


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file into a directory that is made if missing, in place of the one there.

    Raises:
        EnvironmentUnfitError: if the file cannot be stored there: no room, no permission, no directory.
    """
    write_chunks(path, (content.encode() if isinstance(content, str) else content,))


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """The same for a file that is made piece by piece, and need never be in memory as a whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, chunks, is_durable=True)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"cannot write {path}: {reason_of(error)}",
            hint="free some room, or choose another place with --out",
        ) from error


def replace_file(path: Path, content: str | bytes, *, is_durable: bool = True) -> None:
    """Writes a file into an existing directory, in place of the one there.

    A reader sees the whole file or none (or the one it replaces), whatever ends this process: the content
    goes to a temporary file in the same directory and takes the final name in one step. Any number of
    processes and threads may write the same file at once: one of them is last.

    Args:
        path: the file.
        content: all of it.
        is_durable: have it survive a power cut, too, which takes a moment; messages need not.

    Raises:
        OSError: it cannot be written.
    """
    _replace(path, (content.encode() if isinstance(content, str) else content,), is_durable=is_durable)


def check_directory(directory: Path) -> None:
    """Says early whether records can go into `directory`, before a run that may take long; makes nothing.

    What killed writers have left there is cleared away.

    Raises:
        ConfigError: if a file stands where a directory is needed, or the place may not be written to.
    """
    place = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    if not place.is_dir():
        raise ConfigError(f"{place} is not a directory", hint="choose another place with --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{place} may not be written to", hint="choose another place with --out")
    clear_leftovers(directory)


def text_below(mark: str, path: Path) -> str:
    """What somebody wrote below the mark of a file that is written anew; empty where there is no such file.

    Raises:
        ConfigError: if the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").partition(mark)[2].lstrip("\n")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        hint = "move it away to have it written anew"
        raise ConfigError(f"cannot read {path}: {reason}", hint=hint) from None


def clear_leftovers(directory: Path) -> None:
    """Removes the temporary files of writers that were killed; those of writers at work stay.

    Nothing is done where files cannot be locked: there nobody can tell one from the other.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):  # noqa: PTH208 - names alone
            if not (name.startswith(".") and name.endswith(_TEMPORARY)):
                continue
            with contextlib.suppress(OSError):  # a writer is at work on it, or it is gone
                _clear(directory / name)


@contextlib.contextmanager
def locked(directory: Path, *, is_shared: bool = False, wait_s: float | None = None) -> Iterator[None]:
    """Keeps other processes out that lock the same directory, which must be there.

    It is the directory itself that is locked, so that no file is left of it, however its holder dies.

    Args:
        directory: what is locked.
        is_shared: whether others may share it, all but those that want it alone.
        wait_s: how long to wait for others, in seconds; None for as long as they take.

    Raises:
        TimeoutError: if others still hold it.
        OSError: if it cannot be locked, as on some network disks.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if wait_s is None:
            fcntl.flock(descriptor, kind)
        else:
            _lock_in_time(descriptor, kind, wait_s=wait_s)
        yield
    finally:
        os.close(descriptor)


def reason_of(error: OSError) -> str:
    """What the system says is wrong, such as `no space left on device`."""
    return (error.strerror or type(error).__name__).lower()


def _replace(path: Path, chunks: Iterable[bytes], *, is_durable: bool) -> None:
    file, temporary = _open_temporary(path)
    try:
        with file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
            temporary.replace(path)  # while it is locked: until then it is nobody's leftover
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if is_durable:
        _sync_directory(path.parent)


def _open_temporary(path: Path) -> tuple[BinaryIO, Path]:
    """A new file beside another, locked for as long as it is open, which tells it from a leftover."""
    while True:
        # No module but what every process has imported: a script that is followed may have a `secrets.py`.
        temporary = path.with_name(f".{path.stem}-{os.urandom(4).hex()}{_TEMPORARY}")
        file = temporary.open("xb")
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink:
            return file, temporary
        file.close()  # it was cleared away before it was locked


def _sync_directory(directory: Path) -> None:
    """Makes the new name itself survive a power cut; file systems that cannot sync a directory need not."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock_in_time(descriptor: int, kind: int, *, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise TimeoutError from None
            time.sleep(_LOOK_AGAIN_S)
        else:
            return
