"""Which versions are tested: requirements.lock and configs/tested.json, from the bounds in pyproject.toml."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
"""What decides how much memory a job takes."""
TRAINED_WITH = ("datasets", "trl")
"""Of the extras: libraries that scripts of the tests train with, as old as the rest."""

HEADER = """\
# The versions that peakvram is tested with, of all that it installs on Linux x86-64 with Python {python}.
# ./scripts/lock writes this file; the scripts install by it. `pip install peakvram` does not: it goes by the
# bounds of pyproject.toml.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oldest", action="store_true", help="print the lower bounds as constraints instead")
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    if parser.parse_args().oldest:
        print(*(f"{name}=={version}" for name, version in lower_bounds(project).items()), sep="\n")
        return
    newest = resolve(requirements(project))
    pins = "".join(f"{name}=={version}\n" for name, version in newest.items())
    python = ".".join(map(str, sys.version_info[:2]))
    (ROOT / "requirements.lock").write_text(HEADER.format(python=python) + pins)
    (ROOT / "configs" / "tested.json").write_text(json.dumps(tested(project, newest), indent=2) + "\n")


def lower_bounds(project: Mapping[str, Any]) -> dict[str, str]:
    """The oldest promised version of every library that peakvram runs with."""
    bounds = {}
    for requirement in requirements(project):
        match = re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
        assert match is not None, f"{requirement} has no lower bound"
        if requirement in project["project"]["dependencies"] or match[1] in TRAINED_WITH:
            bounds[match[1]] = match[2]
    return bounds


def requirements(project: Mapping[str, Any]) -> list[str]:
    """All that is asked for, to run, to test and to build."""
    return [
        *project["project"]["dependencies"],
        *_extras(project),
        *project["build-system"]["requires"],
    ]


def _extras(project: Mapping[str, Any]) -> Iterator[str]:
    for extra in project["project"]["optional-dependencies"].values():
        yield from (requirement for requirement in extra if not requirement.startswith("peakvram["))


def resolve(wanted: list[str]) -> dict[str, str]:
    """What pip would install into an empty environment, by name."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        options = ["--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed", "--report"]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, str(report), *wanted], check=True)
        chosen = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    versions = {normal_name(item["name"]): item["version"].partition("+")[0] for item in chosen}
    return dict(sorted(versions.items()))


def normal_name(name: str) -> str:
    """A package's name as indices write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def tested(project: Mapping[str, Any], newest: Mapping[str, str]) -> dict[str, Any]:
    """What the package reads: the Pythons and library versions between which it was tested."""
    oldest = lower_bounds(project)
    pattern = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    pythons = [match[1] for text in project["project"]["classifiers"] if (match := pattern.fullmatch(text))]
    libraries = {name: {"oldest": oldest[name], "newest": newest[name]} for name in LIBRARIES}
    return {"python": {"oldest": pythons[0], "newest": pythons[-1]}, **libraries}


if __name__ == "__main__":
    main()
