"""Small and large blocks, of the process and of private pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.allocator.blocks import BlockPool

if TYPE_CHECKING:
    from profiler.allocator.settings import AllocatorSettings


class PoolPair:
    """The two pools that requests go to by their size: the process's, or a private one's (`PrivatePool`).

    Attributes:
        small: for requests of up to 1 MiB.
        large: for others.
        use_count: how many use it: captures, graphs, `MemPool` objects.
    """

    __slots__ = ("large", "small", "use_count")

    def __init__(
        self,
        settings: AllocatorSettings,
        *,
        owner: int = 0,
        is_expandable: bool = False,
        is_split: bool = True,
    ) -> None:
        """Empty, in use once; the arguments are `BlockPool`'s."""
        self.small, self.large = (
            BlockPool(
                settings, is_small=is_small, owner=owner, is_expandable=is_expandable, is_split=is_split
            )
            for is_small in (True, False)
        )
        self.use_count = 1
