"""Lints the script of every page as the page has it, all files in one; skipped where there is no node."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from profiler.report.page import explain, study
from profiler.report.page.shell import SCRIPTS, script_of

LINTER = Path(__file__).with_name("_names.cjs")
PAGES = {"study": study.SCRIPTS, "explain": explain.SCRIPTS}


def lint(script: str) -> str:
    """What is wrong with a page's script, a line a fault; empty where nothing is."""
    num_shared = script_of(()).count("\n")
    node = ["node", "--expose-internals", str(LINTER), str(num_shared)]
    done = subprocess.run(node, input=script, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def main() -> int:
    """Says what is wrong; 1 where anything is."""
    if shutil.which("node") is None:
        print("skipped: node is not installed")
        return 0
    faults = {name: lint(script_of(scripts)) for name, scripts in PAGES.items()}
    assets = {path.stem for path in Path(study.__file__).with_name("assets").glob("*.js")}
    if unused := assets - {*SCRIPTS, *(name for scripts in PAGES.values() for name in scripts)}:
        faults["assets"] = f"on no page: {', '.join(sorted(unused))}\n"
    for name, text in faults.items():
        print(f"{name}: {text or 'ok'}".rstrip())
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
