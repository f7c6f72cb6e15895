"""Which formulas there are."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.formula.others.accelerate_estimate import ACCELERATE_TOTAL_SIZE, ACCELERATE_TRAINING
from profiler.formula.others.eleutherai import ELEUTHERAI_INFERENCE, ELEUTHERAI_TRAINING
from profiler.formula.others.eleutherai_calc import ELEUTHERAI_CALC
from profiler.formula.others.megatron import MEGATRON
from profiler.formula.others.orbit2x import ORBIT2X_FULL, ORBIT2X_INFERENCE, ORBIT2X_LORA, ORBIT2X_QLORA
from profiler.formula.own.peakvram import PEAKVRAM

if TYPE_CHECKING:
    from profiler.formula.breakdown import Formula

IN_CODE: tuple[Formula, ...] = (
    PEAKVRAM,
    ACCELERATE_TOTAL_SIZE,
    ACCELERATE_TRAINING,
    ELEUTHERAI_CALC,
    ELEUTHERAI_INFERENCE,
    ELEUTHERAI_TRAINING,
    MEGATRON,
    ORBIT2X_FULL,
    ORBIT2X_INFERENCE,
    ORBIT2X_LORA,
    ORBIT2X_QLORA,
)
"""Those that are no tables; they are there without a file being read."""


def all_formulas() -> tuple[Formula, ...]:
    """All formulas, ours first, in the order they are shown."""
    from profiler.formula.others.tables import load_tables  # noqa: PLC0415 - few estimates ask for them

    return (*IN_CODE, *load_tables())


def find_formula(name: str) -> Formula:
    """The formula of an id.

    Raises:
        ConfigError: no formula has it.
    """
    in_code = next((formula for formula in IN_CODE if formula.id == name), None)
    if in_code is not None:
        return in_code
    by_id = {formula.id: formula for formula in all_formulas()}
    if name in by_id:
        return by_id[name]
    near = difflib.get_close_matches(name.lower(), by_id, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"formulas are {', '.join(by_id)}"
    raise ConfigError(f"unknown formula {name!r}", hint=hint)
