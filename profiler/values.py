"""What a file of ours or a message is made of: values that never change and have no field but their own."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

MAX_INT: Final = 2**63 - 1
"""The largest number of ours: what tables of every kind can hold."""


class Value(BaseModel):
    """A value; a field that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
