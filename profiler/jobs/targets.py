"""Which modules of a model a job's adapters go to, by peft's own rule, without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_targeted(path: str, targets: Iterable[str]) -> bool:
    """Whether a list of targets names a module: it names the whole path, or whole names at its end.

    peft, `tuners_utils.check_target_module_exists`, where `target_modules` is a list and neither layers nor
    modules are left out. `all-linear` is no name: what it stands for depends on the modules themselves.

    Args:
        path: of the module, such as `model.layers.0.self_attn.q_proj`; of one in all blocks alike, the part
            behind the block's number.
        targets: names such as `q_proj`, or ends of paths such as `self_attn.q_proj`.
    """
    return any(path == target or path.endswith(f".{target}") for target in targets)
