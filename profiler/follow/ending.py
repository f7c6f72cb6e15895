"""How a process ends, as far as it can tell itself: by returning, by an exception or by `os._exit`."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a process.

    Attributes:
        kind: `exit` where the interpreter ended, `os._exit` where the process ended itself at once.
        error: the exception that ended it, in one line; None without one.
        is_out_of_memory: whether that was the card's memory.
    """

    kind: str
    error: str | None
    is_out_of_memory: bool


def watch_end(tell: Callable[[Ending], None]) -> None:
    """Have `tell` called once, as late as this process can still speak.

    A process that a signal kills tells nothing.
    """
    really_exit = os._exit

    def exit_at_once(status: int) -> NoReturn:
        tell(_ending("os._exit"))
        really_exit(status)

    os._exit = exit_at_once
    atexit.register(lambda: tell(_ending("exit")))


def _ending(kind: str) -> Ending:
    # Python keeps the exception that it printed last: the one that ended the script, if one did.
    error: BaseException | None = getattr(sys, "last_value", None)
    return Ending(
        kind=kind,
        error=None if error is None else f"{type(error).__name__}: {error}",
        is_out_of_memory=any(map(_is_out_of_memory, _causes(error))),
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    # Libraries that allocate beside torch (the CUDA context itself, bitsandbytes) raise other types.
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error)
    )
