"""What somebody wrote below the mark of a file that is written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.files import reason_of

if TYPE_CHECKING:
    from pathlib import Path


def text_below(mark: str, path: Path) -> str:
    """The text below a mark; empty where there is no such file.

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
        raise ConfigError(f"{path} cannot be read: {reason}", hint=hint) from None
