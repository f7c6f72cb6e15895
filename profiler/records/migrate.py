"""How a record of any schema version becomes one of today's."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError
from pydantic_core import from_json

from profiler.records.schema import SCHEMA_VERSION, Record
from profiler.values import MAX_INT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Tree: TypeAlias = dict[str, Any]
Migration: TypeAlias = "Callable[[Tree], Tree]"

MIGRATIONS: Mapping[int, Migration] = MappingProxyType({})
"""What makes a record of version n + 1 of one of version n, by n; `schema_version` aside."""


class NotARecordError(ValueError):
    """Why a text is no record of a version that can be read."""


def parse_record(text: str | bytes) -> Record:
    """Reads a record from JSON, of this schema version or an older one.

    Raises:
        NotARecordError: if the text is no record, or one of a newer version.
    """
    try:
        return Record.model_validate_json(text)  # as nearly all are: without a tree in between
    except ValidationError:
        pass
    try:
        tree = from_json(text)
    except ValueError:
        raise NotARecordError("it is cut short or not JSON") from None
    if not isinstance(tree, dict):
        raise NotARecordError("its top level has no valid value")
    try:
        return Record.model_validate(migrate(tree))
    except ValidationError as error:
        raise NotARecordError(_first_problem(error)) from None


def migrate(
    tree: Tree, *, migrations: Mapping[int, Migration] = MIGRATIONS, to_version: int = SCHEMA_VERSION
) -> Tree:
    """Brings a record's fields to `to_version`, one version at a time.

    Raises:
        NotARecordError: if it says no version, or one that is newer, or older than any migration.
    """
    version = tree.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise NotARecordError(
            "schema_version is missing" if version is None else "schema_version is no number"
        )
    if version > to_version:
        raise NotARecordError(
            f"its schema version {version} is newer than {to_version}, the newest known here"
        )
    while version < to_version:
        if version not in migrations:
            raise NotARecordError(f"there is no way from schema version {version} to {version + 1}")
        tree, version = {**migrations[version](tree), "schema_version": version + 1}, version + 1
    return tree


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "its top level"
    if first["type"] == "missing":
        return f"{where} is missing"
    found = first["input"]
    is_too_large = isinstance(found, int) and abs(found) > MAX_INT
    return f"{where} is beyond 64 bits" if is_too_large else f"{where} has no valid value"
