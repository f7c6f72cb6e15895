from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

import pytest

from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = ROOT / "profiler"
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
}
FLOORS = [
    ("errors", "resources", "text", "units", "values"),
    ("files",),
    ("jobs",),
    ("hardware",),
    ("records",),
    ("virtual",),
    ("process",),
    ("allocator",),
    ("formula",),
    ("measure",),
    ("workload",),
    ("execute",),
    ("follow",),
    ("estimate",),
    ("fit",),
    ("explain", "verify", "doctor"),
    ("derive",),
    ("bench",),
    ("report",),
    ("evidence",),
    ("cli",),
    ("__main__",),
]
"""The rooms of the package from the ground up: each imports what lies below it, and nothing else."""
INNER_FLOORS = {
    "report": [("base",), ("terminal", "markdown", "figures", "page"), ("files",)],
}
"""The same within a room."""
WITHOUT_TORCH = {
    *("units", "errors", "resources", "text", "values", "files", "jobs", "hardware", "records", "formula"),
    *("allocator", "estimate", "fit", "report", "evidence", "cli"),
}


def name_of(path: Path) -> str:
    name = path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def modules_of(part: str) -> list[str]:
    files = [PACKAGE / f"{part}.py", *sorted((PACKAGE / part).rglob("*.py"))]
    return [name_of(path) for path in files if path.exists()]


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """The modules of the package that a file imports, wherever in it, with the line of each."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield node.lineno, name if name in MODULES else str(node.module)


def floor_of(module: str) -> int:
    room = module.split(".")[1]
    return next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)


def loaded_after(code: str) -> set[str]:
    """The top-level modules a fresh interpreter has loaded after running `code`."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("part", sorted(WITHOUT_TORCH))
def test_what_plans_and_shows_imports_no_torch(part: str) -> None:
    imports = "\n".join(f"import {name}" for name in modules_of(part))
    assert not loaded_after(imports) & {"torch", "transformers", "peft", "bitsandbytes", "accelerate"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["gpus", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"from profiler.cli.app import run_command\nassert run_command({arguments!r}) == 0"
    assert not loaded_after(code) & HEAVY


@pytest.mark.parametrize("flags", [["--json"], ["--all-formulas"]])
def test_an_estimate_loads_nothing_heavy(flags: list[str]) -> None:
    arguments = ["estimate", "llama-3.1-8b", "--gpu", "rtx-4090", *flags]
    code = f"from profiler.cli.app import run_command\nassert run_command({arguments!r}) == 0"
    assert not loaded_after(code) & HEAVY


def test_a_usage_error_loads_nothing_heavy() -> None:
    code = (
        "from profiler.cli.app import run_command\nassert run_command(['run', 'x', '--method', 'qlra']) == 2"
    )
    assert not loaded_after(code) & HEAVY


def test_importing_the_package_loads_nothing_of_others() -> None:
    assert loaded_after("import profiler") - loaded_after("pass") == {"profiler"}


MODULES = {name: path for path in sorted(PACKAGE.rglob("*.py")) if (name := name_of(path)) != "profiler"}


def test_every_room_has_its_floor() -> None:
    rooms = {name.split(".")[1] for name in MODULES}
    assert rooms == {room for floor in FLOORS for room in floor}


def test_every_import_goes_down() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line} imports {target}"
        for name, path in MODULES.items()
        for line, target in imports_of(path)
        if target in MODULES and target.split(".")[1] != name.split(".")[1]
        if floor_of(target) >= floor_of(name)
    ]
    assert wrong == []


@pytest.mark.parametrize("room", INNER_FLOORS)
def test_every_import_within_a_room_goes_down(room: str) -> None:
    floors = {name: floor for floor, names in enumerate(INNER_FLOORS[room]) for name in names}
    inside = {name: path for name, path in MODULES.items() if name.startswith(f"profiler.{room}.")}
    assert {name.split(".")[2] for name in inside} == set(floors)
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line} imports {target}"
        for name, path in inside.items()
        for line, target in imports_of(path)
        if target in inside and target.split(".")[2] != name.split(".")[2]
        if floors[target.split(".")[2]] >= floors[name.split(".")[2]]
    ]
    assert wrong == []


def test_every_path_and_module_of_ours_in_a_string_is_there() -> None:
    """Which a rename would break without an import that fails."""
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{node.lineno} {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in re.findall(r"\bprofiler(?:[./]\w+)+", node.value)
        if not is_of_ours(name)
    ]
    assert wrong == []


def is_of_ours(name: str) -> bool:
    """Whether there is such a path, module, or module with something of that name in it."""
    if "/" in name:
        return (PACKAGE.parent / name).exists()
    paths = (PACKAGE.parent / part.replace(".", "/") for part in (name, name.rpartition(".")[0]))
    return any(
        path.with_suffix(".py").exists() or (path / "__init__.py").exists()
        for path in paths
        if path != PACKAGE
    )


@pytest.mark.parametrize(
    "name", ["profiler/loop", "profiler/workload/jobs.py", "profiler.loop", "profiler.workload.jobs.run"]
)
def test_what_is_not_ours_is_seen(name: str) -> None:
    assert not is_of_ours(name)


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {
        name: {target for _, target in imports_of(path) if target in MODULES}
        for name, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


def test_no_c_source_needs_itself_by_way_of_others() -> None:
    """A source needs where the functions that it calls are defined, and the headers that it includes."""
    sources = {path.name: path.read_text() for path in sorted((PACKAGE / "virtual/csrc").glob("*.[ch]"))}
    defined = {
        function: name
        for name, source in sources.items()
        for function in re.findall(r"^(?!static)[\w *]*?\b(vgpu_\w+)\([^;]*?\)\s*\{", source, re.MULTILINE)
    }
    graph = {
        name: {
            *re.findall(r'^#include "(.*)"', source, re.MULTILINE),
            *(
                defined[word]
                for word in re.findall(r"\bvgpu_\w+", source)
                if name.endswith(".c") and word in defined
            ),
        }
        - {name}
        for name, source in sources.items()
    }
    assert {"visible.c", "visible.h"} <= graph["accounts.c"]
    TopologicalSorter(graph).prepare()
