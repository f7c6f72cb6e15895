"""Following small scripts on a virtual card."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profiler.follow.command import FollowOptions, follow_command
from profiler.virtual.state import library_path

if TYPE_CHECKING:
    from profiler.follow.result import CommandResult, ProcessReport

needs_the_library = pytest.mark.skipif(
    not library_path().is_file(),
    reason="the virtual GPU's library is not built: python -m profiler.virtual.build",
)

SCRIPTS = Path(__file__).parent / "scripts"

# A script that trains three steps: what most tests change a line of.
TRAINING = """
    import sys, torch
    model = torch.nn.Linear(512, 512, device="cuda")
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(3):
        loss = model(torch.ones(64, 512, device="cuda")).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print("step", step)
"""


def follow(*command: str, gpu: str = "rtx-4090", **options: Any) -> CommandResult:
    """Follows a command; `options` are those of `FollowOptions`."""
    return follow_command(command, FollowOptions(gpu=gpu, **options))


def follow_text(directory: Path, text: str, *arguments: str, **settings: Any) -> CommandResult:
    """Follows a script given as text."""
    script = directory / "train.py"
    script.write_text(textwrap.dedent(text))
    return follow(sys.executable, str(script), *arguments, **settings)


def follow_script(name: str, *arguments: str, **settings: Any) -> CommandResult:
    """Follows one of the scripts of `tests/virtual/scripts`."""
    return follow(sys.executable, str(SCRIPTS / f"{name}.py"), *arguments, **settings)


def only(result: CommandResult) -> ProcessReport:
    """The one process of a command that used CUDA."""
    (report,) = result.processes
    return report
