"""The events of a job's allocator, in a form that repeats where the job does, and is written once there.

A body is what happens in one phase of a run. It is a text of symbols, one an event, with blanks between:
`3.12` is a request of the file's size 3 for its owner 12, `-5` frees the block of the fifth request before,
and `e` empties the cache. `31(3.12 -1)` stands for what is in brackets 31 times.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

EMPTY = "e"
MAX_EVENTS = 4_000_000
"""Events of one run; a file that comes to more is not read."""

_TOKEN = re.compile(
    r"(?:(?P<request>\d{1,6})\.(?P<owner>\d{1,6})|-(?P<back>[1-9]\d{0,8})|(?P<empty>e)"
    r"|(?P<count>[1-9]\d{0,5})\(|(?P<end>\))|(?P<wrong>.{1,40})) ?",
    re.DOTALL,
)
_MAX_DEPTH = 8
_ALIKE = 8
"""How many events must be alike for a longer block to be looked for there."""
_MOST_TRIED = 32


class SizedRequest(NamedTuple):
    """A request: the number of its size, and that of its owner."""

    size: int
    owner: int


class Free(NamedTuple):
    """A block is freed: that of the request so many requests before."""

    back: int


Symbol = SizedRequest | Free | None
"""What happens; None for an emptied cache."""


def write_body(symbols: Sequence[Symbol]) -> str:
    """The text of a body; what comes several times in a row is written once."""
    return _fold([_text_of(symbol) for symbol in symbols])


def read_body(text: str) -> tuple[Symbol, ...]:
    """The symbols of a body.

    Raises:
        ValueError: the text is none, or comes to more than a run can have.
    """
    stack: list[tuple[int, list[Symbol]]] = [(1, [])]
    num_events = 0
    for match in _TOKEN.finditer(text):
        symbols = stack[-1][1]
        num_events += 1
        match match.lastgroup:
            case "owner":
                symbols.append(SizedRequest(int(match["request"]), int(match["owner"])))
            case "back":
                symbols.append(Free(int(match["back"])))
            case "empty":
                symbols.append(None)
            case "count":
                num_events -= 1
                _begin(stack, int(match["count"]))
            case "end":
                num_events = _end(stack, num_events - 1)
            case _:
                raise ValueError(f"no event: {match[0]!r}")
        if num_events > MAX_EVENTS:
            raise ValueError(f"more than {MAX_EVENTS:,} events")
    if len(stack) > 1:
        raise ValueError("a repeated block does not end")
    return tuple(stack[0][1])


def _begin(stack: list[tuple[int, list[Symbol]]], count: int) -> None:
    if len(stack) > _MAX_DEPTH:
        raise ValueError("repeated blocks are nested too deeply")
    stack.append((count, []))


def _end(stack: list[tuple[int, list[Symbol]]], num_events: int) -> int:
    """Writes out the block that ends; how many events there are then, of all that is written so far."""
    if len(stack) == 1:
        raise ValueError("a repeated block ends that has not begun")
    count, repeated = stack.pop()
    if not repeated:
        raise ValueError("a repeated block is empty")  # its text could go on without an event
    num_events += (count - 1) * len(repeated)
    if num_events <= MAX_EVENTS:
        stack[-1][1].extend(repeated * count)
    return num_events


def _text_of(symbol: Symbol) -> str:
    match symbol:
        case SizedRequest(size, owner):
            return f"{size}.{owner}"
        case Free(back):
            return f"-{back}"
        case None:
            return EMPTY


def _fold(texts: Sequence[str]) -> str:
    """The texts, with what is repeated in a row in brackets."""
    numbers: dict[str, int] = {}
    codes = array("i", (numbers.setdefault(text, len(numbers)) for text in texts))
    return " ".join(_folded(texts, codes.tobytes(), codes.itemsize))


def _folded(texts: Sequence[str], codes: bytes, width: int) -> Iterator[str]:
    places: dict[bytes, list[int]] = {}
    for index in range(len(texts)):
        places.setdefault(codes[index * width : (index + _ALIKE) * width], []).append(index)
    position = 0
    while position < len(texts):
        again = places[codes[position * width : (position + _ALIKE) * width]]
        again = again[bisect_right(again, position) :][:_MOST_TRIED]
        length, count = _repetition(codes, width, position, [*range(position + 1, position + _ALIKE), *again])
        if count > 1:
            yield f"{count}({_fold(texts[position : position + length])})"
        else:
            yield texts[position]
        position += length * count


def _repetition(codes: bytes, width: int, start: int, places: Iterable[int]) -> tuple[int, int]:
    """The block at `start` that saves most by being written once: its length, and how often it comes."""
    best, saved = (1, 1), 1
    for place in places:
        length, block = place - start, codes[start * width : place * width]
        count = 1
        while codes[(start + count * length) * width : (start + (count + 1) * length) * width] == block:
            count += 1
        if (count - 1) * length > saved:
            best, saved = (length, count), (count - 1) * length
    return best
