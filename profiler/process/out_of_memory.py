"""Was it the card's memory that a process ran out of?

Asked in workers, and in processes of a followed command, which import the standard library and torch only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS = ("out of memory", "NVML_SUCCESS == r INTERNAL ASSERT FAILED")
"""Libraries that allocate beside torch (the CUDA context itself, bitsandbytes) raise other types than torch;
on a MIG slice torch before 2.14 trips over NVML while it words its own message (pytorch issue 112377)."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from or while handling, was a full card."""
    return any(map(_is_full_card, with_causes(error)))


def with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from or while handling, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_full_card(error: BaseException) -> bool:
    # By its name: torch's own is a RuntimeError whatever its words are, and torch is not imported here.
    is_torchs = any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__)
    return isinstance(error, RuntimeError) and (is_torchs or any(words in str(error) for words in _WORDS))
