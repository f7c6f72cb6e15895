"""What can go wrong in a way its reader can mend, and the exit code that says so."""

from __future__ import annotations

from typing import ClassVar


class PeakvramError(Exception):
    """Something its reader can act on: one line that says what and where, and a hint that says what to do.

    Attributes:
        message: what is wrong, in one line.
        hint: what to do about it; empty where nothing useful can be said.
        exit_code: the exit code of a command that ends with this error.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keeps the message and its hint apart, so that each can be shown in its own place."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message, with its hint in brackets where there is one."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(PeakvramError):
    """The job, a file or a flag is wrong."""

    exit_code = 2


class EnvironmentUnfitError(PeakvramError):
    """This machine, its driver or its libraries cannot do what was asked."""

    exit_code = 3


class MachineFaultError(EnvironmentUnfitError):
    """This machine failed meanwhile: no room, no memory, a broken disk. The same may go well another time."""
