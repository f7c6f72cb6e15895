"""Backward passes that allocate what they do on a real card, though a dispatch mode follows all else.

The autograd engine adds a gradient in place where nobody else holds it. Under a dispatch mode somebody does:
every tensor has passed through Python, and `isTensorSubclassLike` takes it for a subclass. So the engine runs
without the mode. Code that it calls back runs with it (`hooks.py`): what a checkpoint recomputes, the
backward of a function written in Python, every hook. So does the backward of indexing by a mask, which reads
how many elements it selects.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from profiler.virtual.hooks import Switch, watched_callbacks
from profiler.virtual.torch_private import MODE_STACK, RUN_BACKWARD, WITHOUT_MODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.autograd.graph import Node

    from profiler.virtual.torch_private import TorchDispatchMode

_mode_stack, _without_modes = MODE_STACK.find(), WITHOUT_MODES.find()
INDEXING = frozenset({"IndexBackward0", "IndexPutBackward0", "IndexPutImplBackward0", "UnsafeIndexBackward0"})
"""torch's names of the backward of indexing by tensors."""


@contextmanager
def unwatched_engine(mode: TorchDispatchMode, *, has_masks: Callable[[], bool]) -> Iterator[None]:
    """The autograd engine runs without `mode`; what it calls back in Python goes on with it.

    Args:
        mode: the mode that follows values.
        has_masks: whether anything has been indexed by a mask.
    """
    run_backward: Callable[..., Any] = RUN_BACKWARD.find()

    def run_unwatched(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        if _mode_stack() != [mode]:  # torch is compiling: another mode must see this
            return run_backward(outputs, *args, **kwargs)
        with ExitStack() as hooks, _without_modes():
            for node in _nodes(outputs) if has_masks() else ():
                if node.name() in INDEXING:
                    hooks.callback(node.register_prehook(Switch(mode, is_on=True)).remove)
                    hooks.callback(node.register_hook(Switch(mode, is_on=False)).remove)
            return run_backward(outputs, *args, **kwargs)

    with watched_callbacks(mode), RUN_BACKWARD.replaced(run_unwatched):
        yield


def _nodes(outputs: Any) -> Iterator[Node]:
    """Every node of the graph behind some tensors or gradient edges."""
    waiting = [getattr(output, "grad_fn", None) or getattr(output, "node", None) for output in outputs]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting.extend(following for following, _ in node.next_functions)
