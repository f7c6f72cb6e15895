"""The command `peakvram`: its commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import ast
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler import __version__
from profiler.errors import EnvironmentUnfitError, PeakvramError
from profiler.process.faults import machine_fault
from profiler.report.base.text import literal
from profiler.report.terminal.output import message_console

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_INTERRUPTED = 130
_COMPLETE = "_PEAKVRAM_COMPLETE"  # what a shell that completes a line sets, by typer's rule

COMMANDS = (
    "run",
    "explain",
    "estimate",
    "plan",
    "sweep",
    "pack",
    "export",
    "exec",
    "report",
    "compare",
    "derive",
    "replay",
    "fit",
    "verify",
    "validate",
    "claims",
    "gpus",
    "models",
    "doctor",
)
"""The commands in the order of the help: each is the function of its name in the module of its name."""


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; every foreseen error is one line and a hint on stderr."""
    first = next((argument for argument in arguments if not argument.startswith("-")), "")
    try:
        app = build_app([first]) if first in COMMANDS else build_app(is_listed=_COMPLETE not in os.environ)
        code = app(list(arguments), prog_name="peakvram", standalone_mode=False)
    except typer.TyperException as error:
        return _report(error.format_message(), hint=_usage_hint(arguments), exit_code=error.exit_code)
    except PeakvramError as error:
        return _report(error.message, hint=error.hint or _usage_hint(arguments), exit_code=error.exit_code)
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        if (fault := machine_fault(error)) is None:
            raise
        return _report(fault[0], hint=fault[1], exit_code=EnvironmentUnfitError.exit_code)
    if code == _INTERRUPTED:
        return _report("interrupted", hint="", exit_code=_INTERRUPTED)
    return code if isinstance(code, int) else 0


def build_app(names: Iterable[str] = COMMANDS, *, is_listed: bool = False) -> typer.Typer:
    """The command line with some of its commands: what the others import need not be waited for.

    Args:
        names: the commands.
        is_listed: whether they are only listed: then nothing of theirs is imported.
    """
    app = typer.Typer(
        name="peakvram",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_peakvram)
    for name in names:
        if is_listed:
            app.command(name, help=_help_of(name))(_listed)
        else:
            app.command()(getattr(import_module(f"profiler.cli.{name}"), name))
    return app


def _help_of(name: str) -> str | None:
    """What a command's function says of itself, read from its file."""
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return ast.get_docstring(next(functions))


def _listed() -> None:
    """Stands for a command in a list."""


def _peakvram(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version and exit.")
    ] = False,
) -> None:
    """How much GPU memory a fine-tuning job really takes, and whether it fits.

    \b
    peakvram run llama-3.1-8b --method qlora --gpu rtx-4090
    peakvram estimate llama-3.1-8b --method qlora --gpu rtx-4090
    peakvram sweep smoke
    peakvram gpus
    peakvram models
    peakvram doctor
    """  # noqa: D301 - \b keeps the examples' lines apart
    if version:
        typer.echo(f"peakvram {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    else:
        return
    raise typer.Exit


def _usage_hint(arguments: Sequence[str]) -> str:
    command = next((argument for argument in arguments if argument in COMMANDS), "")
    return f"see {' '.join(part for part in ('peakvram', command, '--help') if part)}"


def _report(message: str, *, hint: str, exit_code: int) -> int:
    console = message_console()
    console.print(literal("error: ", "bold red"), literal(message), sep="", soft_wrap=True)
    if hint:
        console.print(literal(f"hint: {hint}"), soft_wrap=True)
    return exit_code
