"""What is wrong with a job's fields, in the words of the person who wrote them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from profiler.jobs.job import METHODS, SPEC_ERROR, GradientCheckpointing, JobSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_MISSING_HINTS = {"model": "a preset, a Hub id or a local directory"}
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "enum": "one of its values",
}
_LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProblem:
    """What is wrong, at which dotted path, and what to do about it (empty where nothing can be said)."""

    path: str
    message: str
    hint: str


def describe_problem(error: ValidationError) -> JobProblem:
    """Describes the first thing wrong with a job, and says how many more there are."""
    first, *others = error.errors(include_url=False)
    problem = _describe(first)
    if not others:
        return problem
    return replace(problem, message=f"{problem.message} (and {len(others)} more)")


def nearest_hint(name: str, valid: Sequence[str]) -> str:
    """Names the valid value nearest to a mistaken one, or all of them where none is near."""
    near = difflib.get_close_matches(name.lower(), valid, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it can be {', '.join(valid)}"


def _describe(error: ErrorDetails) -> JobProblem:
    path, found, context = _dotted_path(error["loc"]), error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            message, hint = _unknown_key(error["loc"])
        case "missing":
            message, hint = "is missing", _MISSING_HINTS.get(path, "")
        case "union_tag_invalid":
            path = f"{path}.kind"
            message = f"there is no method {_shown(context['tag'])}"
            hint = nearest_hint(str(context["tag"]), list(METHODS))
        case "union_tag_not_found":
            path, message, hint = f"{path}.kind", "is missing", f"it can be {', '.join(METHODS)}"
        case kind if kind == SPEC_ERROR:
            message, hint = context["message"], context["hint"]
        case kind if kind in _LIMITS:
            name, words = _LIMITS[kind]
            message, hint = f"must be {words} {context[name]}, not {_shown(found)}", ""
        case "string_too_short":
            message, hint = "is empty", _MISSING_HINTS.get(path, "")
        case kind:
            message, hint = _wrong_value(error["loc"], found, expected=_EXPECTED.get(kind, "another value"))
    return JobProblem(path=path, message=message, hint=hint)


def _wrong_value(loc: tuple[int | str, ...], found: object, *, expected: str) -> tuple[str, str]:
    values = _values_of(loc)
    if not values:
        return f"expected {expected}, found {_shown(found)}", ""
    return f"{_shown(found)} is not one of its values", nearest_hint(str(found), values)


def _unknown_key(loc: tuple[int | str, ...]) -> tuple[str, str]:
    key = str(loc[-1])
    if loc[0] != "method":
        model = GradientCheckpointing if loc[0] == "gradient_checkpointing" and len(loc) > 1 else JobSpec
        return "unknown key", nearest_hint(key, list(model.model_fields))
    kind = str(loc[1])
    owners = [name for name, method in METHODS.items() if key in method.model_fields]
    if owners:
        return f"does not apply to method {kind!r}", f"it belongs to {', '.join(owners)}"
    return "unknown key", nearest_hint(key, list(METHODS[kind].model_fields))


def _dotted_path(loc: tuple[int | str, ...]) -> str:
    """The path as it stands in the file: the tag that pydantic puts behind a union's name is not in it."""
    return ".".join(str(part) for part in ((loc[0], *loc[2:]) if _is_tagged(loc) else loc))


def _is_tagged(loc: tuple[int | str, ...]) -> bool:
    return len(loc) > 1 and loc[0] == "method" and loc[1] in METHODS


def _values_of(loc: tuple[int | str, ...]) -> list[str]:
    """The values a choice takes; empty for a field that is no choice."""
    model: type[BaseModel] = METHODS[str(loc[1])] if _is_tagged(loc) else JobSpec
    field = model.model_fields.get(str(loc[-1]))
    kind = field.annotation if field is not None else None
    return [member.value for member in kind] if isinstance(kind, type) and issubclass(kind, StrEnum) else []


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
