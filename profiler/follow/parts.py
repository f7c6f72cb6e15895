"""Where a script is in its training: seen from the calls that every loop makes, whatever its shape.

Nothing of the script's is touched: `Module.__call__` is watched until the first forward pass on the card and
then left alone, backward passes are seen where `torch.autograd` starts its engine, and optimizers tell by the
hooks that torch has for it. A script may have several optimizers, one a parameter even, and they may step
while gradients come in, or once for each group of parameters: a step of training is a round of them, until
one steps again after another backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from profiler.virtual.torch_private import RUN_BACKWARD, TRACING

if TYPE_CHECKING:
    from collections.abc import Callable

SETUP, FORWARD, BACKWARD, CLIP, STEP, REST = "setup", "forward", "backward", "clip", "step", "rest"
"""Parts of a script: until the first forward pass; until a backward pass begins; that; until an optimizer's
step begins; that; and what comes after the last of these."""


class PartWatch:
    """Tells of each part of the script as it ends.

    Attributes:
        num_steps: rounds of optimizer steps that have begun.
    """

    def __init__(
        self, on_part: Callable[[str, int], None], *, on_step: Callable[[int], None] = lambda _: None
    ) -> None:
        """Watches nothing yet.

        Args:
            on_part: told which part has ended, and of which step.
            on_step: told of `num_steps` after the first optimizer of a round has stepped, or after the
                backward pass that it stepped in; it may raise to end the script.
        """
        self._on_part = on_part
        self._on_step = on_step
        self.reset()

    def install(self) -> None:
        """Begin to watch."""
        self._watch_first_call()
        self._watch_engine()
        register_optimizer_step_pre_hook(self._before_step)
        register_optimizer_step_post_hook(self._after_step)

    def reset(self) -> None:
        """Start anew: in a process that was forked, nothing has happened yet."""
        self._depth, self._has_forward, self.num_steps = 0, False, 0
        self._round: set[int] = set()
        """The optimizers that have stepped in this round, by their identities."""
        self._has_begun_round, self._has_gradients = False, False

    def _end(self, part: str) -> None:
        self._on_part(part, self.num_steps)

    def _watch_first_call(self) -> None:
        original = torch.nn.Module.__call__

        def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            # Who has taken hold of this method, as `generate()` has, goes on calling it.
            if not self._has_forward and _is_on_a_card(module, args):
                torch.nn.Module.__call__ = original  # type: ignore[method-assign]
                self._has_forward = True
                self._end(SETUP)
            return original(module, *args, **kwargs)

        torch.nn.Module.__call__ = call  # type: ignore[method-assign]

    def _watch_engine(self) -> None:
        tracing = TRACING.find()
        run_backward: Callable[..., Any] = RUN_BACKWARD.find()

        def run(*args: Any, **kwargs: Any) -> Any:
            # Within another it is a checkpoint's own; within a trace torch.compile looks at what it would be
            if self._depth or tracing.try_get() is not None:
                return run_backward(*args, **kwargs)
            self._end(FORWARD if self._has_forward else SETUP)
            self._depth += 1
            self._has_gradients = True
            try:
                gradients = run_backward(*args, **kwargs)
            finally:
                self._depth -= 1
                self._end(BACKWARD)
            self._count_round()
            return gradients

        RUN_BACKWARD.replace(run)

    def _before_step(self, *_: object) -> None:
        if not self._depth:  # an optimizer may step while gradients come in
            self._end(CLIP)

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        is_due = not self._round or id(optimizer) in self._round
        if is_due and self._has_gradients:
            self._round.clear()
            self._has_begun_round, self._has_gradients = True, False
        self._round.add(id(optimizer))
        if not self._depth:
            self._end(STEP)
            self._count_round()

    def _count_round(self) -> None:
        if self._has_begun_round:
            self._has_begun_round = False
            self.num_steps += 1
            self._on_step(self.num_steps)


def _is_on_a_card(module: torch.nn.Module, args: tuple[Any, ...]) -> bool:
    if not torch.cuda.is_initialized():
        return False
    tensors = (*(a for a in args if isinstance(a, torch.Tensor)), *_first(module))
    return any(tensor.is_cuda for tensor in tensors)


def _first(module: torch.nn.Module) -> tuple[torch.Tensor, ...]:
    parameter = next(module.parameters(), None)
    return () if parameter is None else (parameter,)
