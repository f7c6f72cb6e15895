"""Was it the machine that failed: no room, no memory of the host, too many files, a broken or read-only disk?

What a job or a command ends with then says nothing about it, and is never stored as how it ended.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

from profiler.process.out_of_memory import with_causes

FAULT_EXIT_CODE = 74
"""A worker's, where it could not write what was wrong, or not even begin; `EX_IOERR` of sysexits.h."""

_ROOM = "free some room there, or set TMPDIR to another place"
_FILES = "raise the limit: ulimit -n"
_MEMORY = "end other processes, or run fewer --workers"
_DISK = "the disk or its mount needs looking after: the system's log says more"
_HINTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit: ulimit -f",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EIO: _DISK,
    errno.EROFS: _DISK,
}
_NO_THREAD = "can't start new thread"
_NO_MEMORY = "std::bad_alloc"
_LIMITED = "its address space is limited"
_KILLS = Path("/proc/vmstat")


def machine_fault(error: BaseException | None) -> tuple[str, str] | None:
    """What of this machine an error tells of, itself or by what it was raised from, and a hint; else None.

    Libraries that are not written in Python tell of it in words alone; so does Python where it imports them.
    """
    for each in with_causes(error):
        if isinstance(each, MemoryError):
            return "the host has no memory left", _MEMORY
        if isinstance(each, OSError) and each.errno in _HINTS:
            where = f"{each.filename}: " if each.filename else ""
            return f"{where}{os.strerror(each.errno).lower()}", _HINTS[each.errno]
        may_tell = (
            isinstance(each, OSError | RuntimeError | ImportError) or type(each).__name__ == "SafetensorError"
        )
        if may_tell and (found := fault_in_words(str(each))):
            return found
    return None


def fault_in_words(text: str) -> tuple[str, str] | None:
    """What of this machine somebody's words tell of, and a hint; else None."""
    if _NO_THREAD in text:
        return "no further thread can be started", "raise the limit: ulimit -u"
    if _NO_MEMORY in text:
        return "the host has no memory left", _MEMORY
    if _LIMITED in text:
        return "memory ran out, as its address space is limited", "raise the limit: ulimit -v unlimited"
    if "No usable temporary directory" in text:
        return "no temporary directory can be written to", _ROOM
    for number, hint in _HINTS.items():
        if os.strerror(number) in text:
            return os.strerror(number).lower(), hint
    return None


def note_end(pid: int, stderr: Path) -> int | None:
    """The exit code of a child that nobody has waited for yet; None while it runs.

    Where addresses run out, code that is not written in Python aborts or writes where there is nothing, and
    says nothing: what is known of such an end is added to what the child has written to `stderr`.
    """
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if ended is None:
        return None
    code: int = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    is_crash = code in (-signal.SIGABRT, -signal.SIGSEGV)
    if is_crash and resource.prlimit(pid, resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        with suppress(OSError), stderr.open("a") as file:  # no room: it is told as a crash
            file.write(f"{_LIMITED}\n")
    return code


def num_kills_for_memory() -> int | None:
    """How many processes the kernel has killed for the host's memory since it started; None if not told."""
    with suppress(OSError, ValueError):
        lines = (line.split() for line in _KILLS.read_text().splitlines())
        return next((int(words[1]) for words in lines if words[0] == "oom_kill"), None)
    return None
