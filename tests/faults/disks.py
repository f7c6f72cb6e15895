"""The file systems of this namespace: private ones for temporary files and shared memory, one for studies."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

HOME = Path("/mnt")
"""The saboteur's own folder, seen from within the namespace."""
DISK = HOME / "disk"
TEMPORARY = Path("/tmp")
SHARED_MEMORY = Path("/dev/shm")
_ROOM = "2g"


def mount_disks(home: Path) -> None:
    """Mount them; `home`, a folder of the machine, becomes `HOME`."""
    _mount("--bind", str(home), str(HOME))
    DISK.mkdir(exist_ok=True)
    for place in (TEMPORARY, SHARED_MEMORY, DISK):
        _mount("-t", "tmpfs", "-o", f"size={_ROOM},mode=1777", "none", str(place))


def fill(place: Path, *, room_bytes: int) -> bool:
    """Leave no more room than that. False if it has just filled further."""
    status = os.statvfs(place)
    used_bytes = (status.f_blocks - status.f_bfree) * status.f_frsize
    # A size of 0 would be no limit at all, and the kernel gives a tmpfs without one none later.
    size_bytes = max(used_bytes + room_bytes, status.f_frsize)
    command = ["mount", "-o", f"remount,size={size_bytes}", str(place)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def empty_again(place: Path) -> None:
    """As much room as before."""
    _mount("-o", f"remount,size={_ROOM}", str(place))


def freeze(folder: Path) -> bool:
    """Nothing can be written there from now on. False if it is not there."""
    command = ["mount", "--bind", "-o", "ro", str(folder), str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def thaw(folder: Path) -> None:
    """It can be written to again."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def leftovers() -> list[str]:
    """What there is in the two places of which nothing may be left."""
    return [str(path) for place in (TEMPORARY, SHARED_MEMORY) for path in place.iterdir()]


def remove(paths: list[str]) -> None:
    """Remove them, so that the next command is not blamed for them."""
    for path in map(Path, paths):
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
