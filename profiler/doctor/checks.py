"""What one check of this machine found, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check ended: `warn` works with a drawback, `fail` does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what, in a word or two.
        status: how it is.
        detail: what was found.
        hint: what to do about it; empty where nothing is amiss.
    """

    name: str
    status: Status
    detail: str
    hint: str = ""


def ok(name: str, detail: str) -> Check:
    """Nothing is amiss."""
    return Check(name=name, status=Status.OK, detail=detail)


def warn(name: str, detail: str, *, hint: str = "") -> Check:
    """It works, with a drawback."""
    return Check(name=name, status=Status.WARN, detail=detail, hint=hint)


def fail(name: str, detail: str, *, hint: str = "") -> Check:
    """It does not work."""
    return Check(name=name, status=Status.FAIL, detail=detail, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that was looked at, in the order to read it.

    Attributes:
        checks: one an item.
    """

    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        """The worst of all."""
        statuses = {check.status for check in self.checks}
        return next((status for status in (Status.FAIL, Status.WARN) if status in statuses), Status.OK)
