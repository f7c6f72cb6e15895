"""Which library versions a published run had, and the separate Python that has them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.evidence.measurements.published import published_dir
from profiler.files import reason_of
from profiler.jobs.problems import nearest_hint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.records.schema import Environment

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
"""The libraries whose versions decide which memory a job takes."""

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;#]+)")
_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_ASK_LIMIT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySet:
    """Library versions that belong together.

    Attributes:
        name: the name of its file, without `.txt`.
        path: the file, in the form that `pip install -r` takes.
        versions: of `LIBRARIES`, as far as the file pins them.
    """

    name: str
    path: Path
    versions: Mapping[str, str]

    @property
    def label(self) -> str:
        """`torch 2.4.1, transformers 4.48.1, ...`."""
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())

    def matches(self, environment: Environment | None) -> bool:
        """Whether a record was made with these versions; what is behind a `+`, as in `+cu121`, is free."""
        return environment is not None and all(
            public_version(getattr(environment, name)) == public_version(version)
            for name, version in self.versions.items()
        )


def public_version(version: str | None) -> str:
    """A version without its build: `2.4.1` of `2.4.1+cu121`; empty where the library is missing."""
    return (version or "").partition("+")[0]


def find_library_set(name: str) -> LibrarySet:
    """Reads a file of library versions: a path, or the bare name of a shipped one.

    Raises:
        ConfigError: if there is no such file, or it pins no version of torch.
    """
    directory = published_dir() / "environments"
    shipped = directory / f"{name}.txt"
    path = shipped if shipped.is_file() else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        hint = nearest_hint(name, sorted(file.stem for file in directory.glob("*.txt")))
        raise ConfigError(f"cannot read the environment {name}: {reason}", hint=hint) from None
    pins = {match["name"].lower(): match["version"] for match in map(_PIN.match, text.splitlines()) if match}
    versions = {library: pins[library] for library in LIBRARIES if library in pins}
    if "torch" not in versions:
        raise ConfigError(
            f"{path} pins no torch", hint="write torch==2.4.1, a line a library, as pip takes it"
        )
    return LibrarySet(name=path.stem, path=path, versions=versions)


def ensure_python(wanted: LibrarySet, directory: Path) -> Path:
    """The Python of the virtual environment in `directory`, made and filled by pip where it is not there.

    Raises:
        EnvironmentUnfitError: if it cannot be made.
    """
    python = directory / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(directory)], what=f"make {directory}")
        install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted.path)]
        _run(install, what=f"install {wanted.path.name} into {directory}")
    return python


def check_python(wanted: LibrarySet, python: Path) -> None:
    """Makes sure that a Python has the versions, before hours are spent on others.

    Raises:
        EnvironmentUnfitError: if it does not start, or has others; the first one that differs is named.
    """
    command = [str(python), "-P", "-c", _ASK, *wanted.versions]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_ASK_LIMIT_S)
        installed = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise EnvironmentUnfitError(f"{python} cannot be asked for its versions: {error}") from None
    for name, version in wanted.versions.items():
        has = public_version(installed.get(name))
        if has != public_version(version):
            raise EnvironmentUnfitError(
                f"{python} has {name} {has or '(none)'}, not {version}",
                hint=f"{python} -m pip install -r {wanted.path}",
            )


def _run(command: list[str], *, what: str) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentUnfitError(f"could not {what}: {error}", hint="pip says why above") from None
