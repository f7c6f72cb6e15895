"""What a study was made with: the sweeps that were run into its directory, and the commands."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pydantic import ValidationError

from profiler.errors import ConfigError
from profiler.files import locked, reason_of, write_file
from profiler.jobs.sweep import Sweep
from profiler.records.redact import KeptText
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STUDY_NAME = "study.json"


class SweepNote(Value):
    """One sweep of a study.

    Attributes:
        command: what was typed, without what decides no record, such as `--limit`.
        sweep: what the file and the flags said.
    """

    command: KeptText
    sweep: Sweep


class StudyNotes(Value):
    """Every sweep of a study, the first one first."""

    sweeps: tuple[SweepNote, ...] = ()


def note_sweep(directory: Path, note: SweepNote) -> None:
    """Notes a sweep beside its records, once; two sweeps may do so at the same time.

    Raises:
        ConfigError: if what is there is no such note; it is left alone.
        EnvironmentUnfitError: if it cannot be written.
    """
    path = directory / STUDY_NAME
    if note in read_notes(directory).sweeps:
        return
    with _locked(directory):
        sweeps = read_notes(directory).sweeps
        kept = tuple(sweep for sweep in sweeps if sweep.command != note.command)
        write_file(path, StudyNotes(sweeps=(*kept, note)).model_dump_json(indent=2) + "\n")


def read_notes(directory: Path) -> StudyNotes:
    """The sweeps of a study; none where nothing is noted.

    Raises:
        ConfigError: if the file is no such note.
    """
    path = directory / STUDY_NAME
    try:
        return StudyNotes.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return StudyNotes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason_of(error)}") from error
    except (UnicodeDecodeError, ValidationError):
        hint = "it says which commands made the study: mend it, or move it away"
        raise ConfigError(f"{path} does not tell of sweeps", hint=hint) from None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keeps other processes from noting at the same time.

    Where there are no locks (some network disks), the note of a sweep begun in the same moment may be lost.
    """
    with contextlib.ExitStack() as lock:
        with contextlib.suppress(OSError):  # writing says what is wrong
            directory.mkdir(parents=True, exist_ok=True)
            lock.enter_context(locked(directory))
        yield
