"""How a file is written: whole or not at all, and where it is a result, with a clear word if it cannot be."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from profiler.errors import ConfigError, EnvironmentUnfitError

if TYPE_CHECKING:
    from pathlib import Path


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file into a directory that is made if missing, in place of the one there.

    Raises:
        EnvironmentUnfitError: if the file cannot be stored there: no room, no permission, no directory.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
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
    # No module but what every process has imported: a script that is followed may have a `secrets.py`.
    temporary = path.with_name(f".{path.stem}-{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if is_durable:
        _sync_directory(path.parent)


def check_directory(directory: Path) -> None:
    """Says early whether records can go into `directory`, before a run that may take long; makes nothing.

    Raises:
        ConfigError: if a file stands where a directory is needed, or the place may not be written to.
    """
    place = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    if not place.is_dir():
        raise ConfigError(f"{place} is not a directory", hint="choose another place with --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{place} may not be written to", hint="choose another place with --out")


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


def reason_of(error: OSError) -> str:
    """What the system says is wrong, such as `no space left on device`."""
    return (error.strerror or type(error).__name__).lower()


def _sync_directory(directory: Path) -> None:
    """Makes the new name itself survive a power cut; file systems that cannot sync a directory need not."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
