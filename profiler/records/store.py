"""Where records are kept: one JSON file each, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from pydantic import ValidationError

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.records.schema import SCHEMA_VERSION, Record

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._]+")


def write_record(directory: Path, record: Record) -> Path:
    """Writes a record into `directory`, made if missing, and returns the file's path.

    A reader sees the whole file or none (or the one it replaces), whatever ends this process: the text goes
    to a temporary file in the same directory, is flushed to the disk, and takes the final name in one step.

    Raises:
        EnvironmentUnfitError: if the record cannot be stored there: no room, no permission, no directory.
    """
    path = directory / record_file_name(record)
    text = record.model_dump_json(indent=2) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _replace(path, text)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"cannot write {path}: {_reason(error)}",
            hint="free some room, or choose another place with --out",
        ) from error
    return path


def check_directory(directory: Path) -> None:
    """Says early whether records can go into `directory`, before a run that may take long; makes nothing.

    Raises:
        ConfigError: if a file stands where a directory is needed, or the place may not be written to.
    """
    place = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    if not place.is_dir():
        raise ConfigError(f"{place} is not a directory", hint="choose another place with --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{place} may not be written to", hint="choose another place with --out")


def read_record(path: Path) -> Record:
    """Reads a record.

    Raises:
        ConfigError: if the file cannot be read or is no record of this version.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {_reason(error)}") from error
    except UnicodeDecodeError:
        raise _not_a_record(path, "it is not UTF-8 text") from None
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise _not_a_record(path, _first_problem(error)) from None


def record_file_name(record: Record) -> str:
    """The name of a record's file: model, method, card and key, in letters any file system takes."""
    model = _slug(_short_model(record.spec.model))
    card = _slug(record.device.id if record.device else record.spec.gpu)
    return f"{model}--{record.spec.method.kind}--{card}--{record.key}.json"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Makes the new name itself survive a power cut; file systems that cannot sync a directory need not."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _short_model(model: str) -> str:
    """A local directory's own name alone: where it stands is nobody's business; any other model as it is."""
    return (Path(model).name or Path.cwd().name) if model.startswith((".", "/", "~")) else model


def _slug(text: str) -> str:
    # Names of files hold 255 bytes; key, method and card leave far more than 80 for the model.
    return _NOT_IN_A_NAME.sub("-", text.lower()).strip("-.")[:80] or "unnamed"


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _not_a_record(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path} is no record: {why}",
        hint=f"this version reads whole records of schema version {SCHEMA_VERSION}",
    )


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return "it is cut short or not JSON"
    where = ".".join(str(part) for part in first["loc"]) or "its top level"
    return f"{where} is missing" if first["type"] == "missing" else f"{where} has no valid value"
