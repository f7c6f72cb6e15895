"""What happens to an allocator, as it is replayed: requests and frees, and what else moves memory."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Action(IntEnum):
    """What is done; in brackets what the other fields of the event say.

    `alloc`: a request (number, size_bytes, stream, pool). `free`: its block is freed (number).
    `record_stream`: another stream uses it (number, stream). `free_completed`: the other streams are done
    with it (number). `empty_cache`: what is wholly free is given back (pool, 0 for all). `begin_pool`,
    `end_pool`: requests go to a private pool, and no more (pool). `use_pool`, `release_pool`: one use of it
    more, and less (pool).
    """

    ALLOC = 0
    FREE = 1
    RECORD_STREAM = 2
    FREE_COMPLETED = 3
    EMPTY_CACHE = 4
    BEGIN_POOL = 5
    END_POOL = 6
    USE_POOL = 7
    RELEASE_POOL = 8


class ReplayEvent(NamedTuple):
    """One event.

    Attributes:
        action: what is done.
        number: which request it is about, in the order of requests.
        size_bytes: what is asked for.
        stream: the stream; 0 for the default one.
        pool: the private pool; 0 for the process's own.
    """

    action: Action
    number: int = 0
    size_bytes: int = 0
    stream: int = 0
    pool: int = 0
