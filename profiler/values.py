"""What a file of ours or a message is made of: values that never change and have no field but their own."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A value; a field that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
