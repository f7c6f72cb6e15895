"""Private directories that are gone with their owner: by its own hand, or by that of the next run.

Each holds a file that its owner keeps locked as long as it lives, however it dies. Whoever makes a directory
first removes those beside it whose lock nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

PREFIX = "peakvram-"
SHARED_MEMORY = Path("/dev/shm")
"""Where files take memory of the host and no disk."""
_OWNER = ".owner"
_OWNER_TO_BE = ".owner.new"
_ENDED = f"{PREFIX}ended-"
"""How the name of a directory begins that is empty but for its owner's file, which nobody needs any more."""
_YOUNG_S = 10.0
"""So long a directory may be there before its owner has locked it."""


class ScratchDirectory(ExitStack):
    """A new directory that nobody else can name beforehand or enter, removed when the block is left.

    Attributes:
        path: of the directory.
    """

    def __init__(self, kind: str = "", *, parent: Path | None = None) -> None:
        """Makes it, and removes what killed runs of this user have left beside it.

        Args:
            kind: a word for its name; empty for none.
            parent: where; None for the system's temporary directory.

        Raises:
            OSError: there is no room, or no permission.
        """
        super().__init__()
        place = Path(tempfile.gettempdir()) if parent is None else parent
        for each in {place, SHARED_MEMORY}:  # a run that was killed may have had one in both
            clear_leftovers(each)
        prefix = f"{PREFIX}{kind}-" if kind else PREFIX
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        self.callback(remove, self.path)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path / _OWNER_TO_BE, flags, 0o600)
            self.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            (self.path / _OWNER_TO_BE).rename(self.path / _OWNER)  # so that whoever finds it, finds it locked
        except BaseException:
            self.close()
            raise


def clear_leftovers(place: Path) -> None:
    """Removes the directories of this user's runs that were killed; those of live ones stay, and all else."""
    with suppress(OSError):
        for path in place.glob(f"{PREFIX}*"):
            with suppress(OSError):  # another run removes it at the same time, or its owner does
                if _is_left(path):
                    remove(path)


def remove(directory: Path) -> None:
    """Removes such a directory, what says whose it is last.

    So what cannot be removed now, or is left as this process is killed, goes with the next run.
    """
    with suppress(OSError):
        directory.rmdir()  # an empty one goes even where no file can be opened any more
        return
    with suppress(OSError):  # it is gone
        for entry in list(directory.iterdir()):
            if entry.name != _OWNER:
                _remove_all(entry)
        if [entry.name for entry in directory.iterdir()] == [_OWNER]:
            name = f"{_ENDED}{directory.name.removeprefix(_ENDED)}"
            directory = directory.rename(directory.with_name(name))
            (directory / _OWNER).unlink(missing_ok=True)
        directory.rmdir()


def _remove_all(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # told of by the directory that is left
            path.unlink()


def _is_left(path: Path) -> bool:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return False
    try:
        descriptor = os.open(path / _OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # killed before it could lock it, or about to; else no directory of ours
        is_old = path.name.startswith(_ENDED) or time.time() - status.st_mtime >= _YOUNG_S
        return is_old and {entry.name for entry in path.iterdir()} <= {_OWNER_TO_BE}
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
