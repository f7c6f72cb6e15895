"""Where the package and the files shipped with it are."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PACKAGE_ROOT = PACKAGE.parent
"""What a process needs on its path to import this package: `site-packages`, or a checkout."""


def configs_dir() -> Path:
    """The shipped `configs` directory: inside the installed package, else the repository's own."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE_ROOT / "configs"
