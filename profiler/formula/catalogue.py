"""Which formulas there are."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.formula.others.accelerate_estimate import ACCELERATE_TOTAL_SIZE, ACCELERATE_TRAINING
from profiler.formula.others.component_table_7b import COMPONENT_TABLE_7B_HIGH, COMPONENT_TABLE_7B_LOW
from profiler.formula.others.decision_guide import (
    DECISION_GUIDE_BUDGET,
    DECISION_GUIDE_RULE,
    DECISION_GUIDE_TABLE,
)
from profiler.formula.others.eleutherai import ELEUTHERAI_INFERENCE, ELEUTHERAI_TRAINING
from profiler.formula.others.eleutherai_calc import ELEUTHERAI_CALC
from profiler.formula.others.fine_tuning_guide import FINE_TUNING_GUIDE
from profiler.formula.others.hardware_guide import HARDWARE_GUIDE_FLOOR, HARDWARE_GUIDE_STATIC
from profiler.formula.others.megatron import MEGATRON
from profiler.formula.others.orbit2x import ORBIT2X_FULL, ORBIT2X_INFERENCE, ORBIT2X_LORA, ORBIT2X_QLORA
from profiler.formula.others.orbit2x_rules import ORBIT2X_RULE_INFERENCE, ORBIT2X_RULE_TRAINING, ORBIT2X_TABLE
from profiler.formula.own.peakvram import PEAKVRAM

if TYPE_CHECKING:
    from profiler.formula.breakdown import Formula

FORMULAS: tuple[Formula, ...] = (
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
    ORBIT2X_RULE_INFERENCE,
    ORBIT2X_RULE_TRAINING,
    ORBIT2X_TABLE,
    FINE_TUNING_GUIDE,
    DECISION_GUIDE_BUDGET,
    DECISION_GUIDE_RULE,
    DECISION_GUIDE_TABLE,
    COMPONENT_TABLE_7B_LOW,
    COMPONENT_TABLE_7B_HIGH,
    HARDWARE_GUIDE_FLOOR,
    HARDWARE_GUIDE_STATIC,
)
"""All formulas, ours first, in the order they are shown."""


def find_formula(name: str) -> Formula:
    """The formula of an id.

    Raises:
        ConfigError: no formula has it.
    """
    by_id = {formula.id: formula for formula in FORMULAS}
    if name in by_id:
        return by_id[name]
    near = difflib.get_close_matches(name.lower(), by_id, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"formulas are {', '.join(by_id)}"
    raise ConfigError(f"unknown formula {name!r}", hint=hint)
