"""What the installed transformers can do with a family's causal language model, read from its sources.

Nothing of it is imported, which would take seconds: its classes say it in plain attributes.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.jobs.choices import Attention

if TYPE_CHECKING:
    from collections.abc import Mapping

_FLAG = re.compile(r"^    (_?supports_\w+)(?:: bool)? = (True|False)\b", re.MULTILINE)
_CLASS = re.compile(r"class (?P<name>\w+)\((?P<bases>[^)]*)\)")
_BARE_BASES = {"PreTrainedModel", "GenerationMixin"}
"""Where a line of classes may end: what they do not say is not supported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalModel:
    """The class that `AutoModelForCausalLM` takes for a family.

    Attributes:
        attentions: the attention implementations that it has, in all of its parts.
        has_checkpointing: whether its blocks can be recomputed.
    """

    attentions: frozenset[Attention]
    has_checkpointing: bool


def find_causal_model_of(config: Mapping[str, object]) -> CausalModel | None:
    """The causal language model of a config, encoders included; None where no source tells."""
    parts = (part.get("model_type") for part in config.values() if isinstance(part, dict))
    return find_causal_model(
        str(config["model_type"]), parts=tuple(part for part in parts if isinstance(part, str))
    )


@cache
def find_causal_model(model_type: str, *, parts: tuple[str, ...] = ()) -> CausalModel | None:
    """The causal language model of a family, by transformers' `model_type`; None where no source tells.

    Args:
        model_type: the family.
        parts: the families of a config's parts, such as an encoder of images.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return None
    models = Path(spec.origin).parent / "models"
    table = models / "auto/modeling_auto.py"
    name = _class_of(table, model_type, mapping="MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    folder = model_type.replace("-", "_").removesuffix("_text")
    path = models / folder / f"modeling_{folder}.py"
    source = path.read_text(encoding="utf-8") if name and path.is_file() else ""
    flags = _flags_of(source, name) if name else None
    if flags is None or name is None:
        return None
    attentions = _attentions(flags)
    if name.endswith("ForConditionalGeneration"):  # a family's other class is its language model alone
        for part in parts:
            encoder = _class_of(table, part, mapping="MODEL_MAPPING_NAMES")
            its_flags = _flags_of(source, encoder) if encoder else None
            attentions &= attentions if its_flags is None else _attentions(its_flags)
    return CausalModel(
        attentions=frozenset(attentions),
        has_checkpointing=flags.get("supports_gradient_checkpointing", False),
    )


def _attentions(flags: Mapping[str, bool]) -> set[Attention]:
    # The second name of flash attention's flag is that of releases before 4.54.
    has_flash = flags.get("_supports_flash_attn") or flags.get("_supports_flash_attn_2")
    attentions = {Attention.EAGER}
    attentions |= {Attention.SDPA} if flags.get("_supports_sdpa") else set()
    attentions |= {Attention.FLASH_ATTENTION_2} if has_flash else set()
    return attentions


def _class_of(path: Path, model_type: str, *, mapping: str) -> str | None:
    """The class of a family in a table of `modeling_auto.py`."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    table = re.search(rf"^{mapping} = OrderedDict\(.*?^\)", text, re.DOTALL | re.MULTILINE)
    pattern = rf'\("{re.escape(model_type)}",\s*"(\w+)"\)'
    found = re.search(pattern, table[0]) if table else None
    return found[1] if found else None


def _flags_of(source: str, name: str) -> dict[str, bool] | None:
    """What a class supports, with what it inherits; None where a base is defined elsewhere."""
    bodies = {
        match["name"]: (match["bases"].replace(" ", "").split(","), part)
        for part in re.split(r"^(?=\S)", source, flags=re.MULTILINE)
        if (match := _CLASS.match(part))
    }

    def inherited(one: str) -> dict[str, bool] | None:
        if one in _BARE_BASES:
            return {}
        if one not in bodies:
            return None
        bases, body = bodies[one]
        flags: dict[str, bool] = {}
        for base in reversed(bases):
            found = inherited(base)
            if found is None:
                return None
            flags |= found
        return flags | {flag: value == "True" for flag, value in _FLAG.findall(body)}

    return inherited(name)
