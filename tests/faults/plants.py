"""What may lie about: leftovers of killed runs, links that somebody has laid, records that are torn."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tests.faults.disks import HOME, SHARED_MEMORY, TEMPORARY

if TYPE_CHECKING:
    import random
    from pathlib import Path

VICTIM = HOME / "victim"
"""Where planted links lead: whoever follows one finds a file there, and must not touch it."""
_PRECIOUS = "nobody but its owner may touch this\n"
_OLD_S = (0.0, 3600.0)


def make_victim() -> None:
    """What links lead to."""
    VICTIM.mkdir(exist_ok=True)
    (VICTIM / "file").write_text(_PRECIOUS)


def check_victim() -> list[str]:
    """What is wrong with it."""
    is_sound = sorted(path.name for path in VICTIM.iterdir()) == ["file"]
    if is_sound and (VICTIM / "file").read_text() == _PRECIOUS:
        return []
    make_victim()
    return ["a planted link was followed"]


def plant_leftovers(rng: random.Random, study: Path) -> str:
    """What a killed run leaves: a folder of its own, or a file that was being written."""
    name = f"{rng.getrandbits(32):08x}"
    if rng.random() < 0.5:
        folder = rng.choice((TEMPORARY, SHARED_MEMORY)) / f"peakvram-{name}"
        (folder / "machine").mkdir(parents=True)
        (folder / ".owner").touch()
        (folder / "machine" / "state").write_bytes(bytes(4096))
        _age(folder, rng)
        return str(folder)
    folder = rng.choice([folder for folder in (study, study / "records") if folder.is_dir()])
    path = folder / f".record-{name}.peakvram.tmp"
    path.write_text("{")
    return str(path)


def plant_links(rng: random.Random) -> Path:
    """A link in a place where everybody may write, under a name that looks like one of ours."""
    place = rng.choice((TEMPORARY, SHARED_MEMORY))
    planted = place / f"peakvram-{rng.getrandbits(32):08x}"
    if rng.random() < 0.5:
        planted.symlink_to(VICTIM)
    else:
        planted.mkdir()
        (planted / ".owner").symlink_to(VICTIM / "file")
        _age(planted, rng)
    return planted


def tear_a_record(rng: random.Random, study: Path) -> tuple[Path, str] | None:
    """A record of which the end is missing, or all, or which is something else; None where there is none."""
    # Not what was torn before: a folder, or a loop of links.
    paths = sorted(path for path in (study / "records").glob("[!.]*.json") if path.is_file())
    if not paths:
        return None
    path, how = rng.choice(paths), rng.choice(("cut", "empty", "zeros", "noise", "folder", "loop"))
    if how in ("folder", "loop"):
        path = path.with_name(f"other-{rng.getrandbits(32):08x}.json")
    match how:
        case "cut":
            content = path.read_bytes()
            path.write_bytes(content[: rng.randrange(1, len(content) - 2)])
        case "empty":
            path.write_bytes(b"")
        case "zeros":
            path.write_bytes(bytes(path.stat().st_size))
        case "noise":
            path.write_bytes(rng.randbytes(500))
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path.name)
    return path, how


def _age(path: Path, rng: random.Random) -> None:
    then_s = time.time() - rng.uniform(*_OLD_S)
    os.utime(path, (then_s, then_s))
