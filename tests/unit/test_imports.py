from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "profiler"
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
OUTER = [
    "units",
    "errors",
    "resources",
    "spec",
    "records",
    "report",
    "cli",
    "hardware",
    "formula",
    "fit",
    "published",
]


def modules_of(part: str) -> list[str]:
    files = [PACKAGE / f"{part}.py", *sorted((PACKAGE / part).rglob("*.py"))]
    names = [
        path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
        for path in files
        if path.exists()
    ]
    return [name.removesuffix(".__init__") for name in names]


def loaded_after(code: str) -> set[str]:
    """The top-level modules a fresh interpreter has loaded after running `code`."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("part", [part for part in OUTER if modules_of(part)])
def test_the_outer_half_imports_no_torch(part: str) -> None:
    imports = "\n".join(f"import {name}" for name in modules_of(part))
    assert not loaded_after(imports) & {"torch", "transformers", "peft", "bitsandbytes", "accelerate"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["gpus", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"from profiler.cli.app import run_command\nassert run_command({arguments!r}) == 0"
    assert not loaded_after(code) & HEAVY


def test_a_usage_error_loads_nothing_heavy() -> None:
    code = (
        "from profiler.cli.app import run_command\nassert run_command(['run', 'x', '--method', 'qlra']) == 2"
    )
    assert not loaded_after(code) & HEAVY


def test_importing_the_package_loads_nothing_of_others() -> None:
    assert loaded_after("import profiler") - loaded_after("pass") == {"profiler"}
