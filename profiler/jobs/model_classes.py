"""Which classes the installed transformers has for a family of models, by task, and what they can do.

Read from its sources: nothing of it is imported, which would take seconds, and its classes say it in plain
attributes.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from profiler.jobs.choices import Attention, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

_FLAG = re.compile(r"^    (_?supports_\w+)(?:: bool)? = (True|False)\b", re.MULTILINE)
_CLASS = re.compile(r"class (?P<name>\w+)\((?P<bases>[^)]*)\)")
_BARE_BASES = {
    "PreTrainedModel",
    "GenerationMixin",
    "GenericForSequenceClassification",
    "GenericForTokenClassification",
}
"""Where a line of classes may end: what they do not say is not supported."""
_TABLES: Mapping[Task, str] = MappingProxyType(
    {
        Task.CAUSAL_LM: "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        Task.SEQUENCE_CLASSIFICATION: "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        Task.TOKEN_CLASSIFICATION: "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        Task.SEQ2SEQ_LM: "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        Task.IMAGE_TEXT_TO_TEXT: "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    }
)
"""The tables of transformers' `modeling_auto.py` that the auto classes choose by."""
_ENCODERS = "MODEL_FOR_MASKED_LM_MAPPING_NAMES"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClass:
    """The class that the auto class of a task takes for a family.

    Attributes:
        attentions: the attention implementations that it has, in all of its parts.
        has_checkpointing: whether its blocks can be recomputed.
    """

    attentions: frozenset[Attention]
    has_checkpointing: bool


def find_class_of(config: Mapping[str, object], task: Task = Task.CAUSAL_LM) -> ModelClass | None:
    """The class of a config for a task, encoders of images included; None where no source tells."""
    parts = (part.get("model_type") for part in config.values() if isinstance(part, dict))
    return find_class(
        str(config["model_type"]), task, parts=tuple(part for part in parts if isinstance(part, str))
    )


@cache
def find_class(
    model_type: str, task: Task = Task.CAUSAL_LM, *, parts: tuple[str, ...] = ()
) -> ModelClass | None:
    """The class of a family for a task, by transformers' `model_type`; None where no source tells.

    Args:
        model_type: the family.
        task: what it is for.
        parts: the families of a config's parts, such as an encoder of images.
    """
    models = _models()
    name = _class_of(model_type, mapping=_TABLES[task])
    if models is None or name is None:
        return None
    folder = model_type.replace("-", "_").removesuffix("_text")
    path = models / folder / f"modeling_{folder}.py"
    source = path.read_text(encoding="utf-8") if path.is_file() else ""
    flags = _flags_of(source, name)
    if flags is None:
        return None
    attentions = _attentions(flags)
    if name.endswith("ForConditionalGeneration"):  # a family's other class is its language model alone
        for part in parts:
            encoder = _class_of(part, mapping="MODEL_MAPPING_NAMES")
            its_flags = _flags_of(source, encoder) if encoder else None
            attentions &= attentions if its_flags is None else _attentions(its_flags)
    return ModelClass(
        attentions=frozenset(attentions),
        has_checkpointing=flags.get("supports_gradient_checkpointing", False),
    )


def tasks_of(model_type: str) -> tuple[Task, ...]:
    """The tasks that the installed transformers has a class of a family for; none where nothing tells."""
    return tuple(task for task, table in _TABLES.items() if _class_of(model_type, mapping=table))


def natural_task(config: Mapping[str, object]) -> Task | None:
    """What a model is trained for where nobody says it; None where nothing tells.

    What its config names as its class comes first; but one that sees images is taken as the language model
    that it is, too. A family of encoders and decoders is for seq2seq-lm; one of encoders, which are trained
    to guess masked tokens, for sequence-classification.
    """
    model_type, tasks = str(config["model_type"]), tasks_of(str(config["model_type"]))
    named = config.get("architectures")
    text_tasks = [task for task in tasks if task is not Task.IMAGE_TEXT_TO_TEXT]
    for task in text_tasks:
        if isinstance(named, list | tuple) and _class_of(model_type, mapping=_TABLES[task]) in named:
            return task
    if Task.SEQ2SEQ_LM in tasks:
        return Task.SEQ2SEQ_LM
    is_encoder = _class_of(model_type, mapping=_ENCODERS) is not None and not config.get("is_decoder")
    if is_encoder and Task.SEQUENCE_CLASSIFICATION in tasks:
        return Task.SEQUENCE_CLASSIFICATION
    return tasks[0] if tasks else None


def _attentions(flags: Mapping[str, bool]) -> set[Attention]:
    # The second name of flash attention's flag is that of releases before 4.54.
    has_flash = flags.get("_supports_flash_attn") or flags.get("_supports_flash_attn_2")
    attentions = {Attention.EAGER}
    attentions |= {Attention.SDPA} if flags.get("_supports_sdpa") else set()
    attentions |= {Attention.FLASH_ATTENTION_2} if has_flash else set()
    return attentions


def _models() -> Path | None:
    """Where the installed transformers has its models."""
    spec = importlib.util.find_spec("transformers")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "models"


@cache
def _class_of(model_type: str, *, mapping: str) -> str | None:
    """The class of a family in a table of `modeling_auto.py`."""
    models = _models()
    path = models / "auto/modeling_auto.py" if models is not None else None
    text = path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
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
