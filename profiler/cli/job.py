"""How a command takes a job: a flag for each of its fields, `--config` and `--set`, as one value."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from profiler.errors import ConfigError
from profiler.jobs.flags import JOB_FLAGS, JobFlag, read_job
from profiler.jobs.load import read_yaml
from profiler.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.jobs.job import JobSpec
    from profiler.jobs.load import Tree

_Command: TypeAlias = Callable[..., int]

_Config: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Read the job from a YAML file; flags change it."),
]
_Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set any key of the job, such as method.rank=8. Repeatable."
    ),
]


def option_of(flag: JobFlag) -> Any:
    """A flag that is no argument as typer takes it."""
    return typer.Option(
        f"{flag.label}/--no-{flag.label[2:]}" if flag.is_switch else flag.label,
        metavar=flag.metavar,
        help=flag.help,
        show_default=False,
        autocompletion=_completion(flag.choices) if flag.choices else None,
    )


def _completion(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def matching(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return matching


_BY_NAME = {flag.name: flag for flag in JOB_FLAGS}
Gpu: TypeAlias = Annotated[str | None, option_of(_BY_NAME["gpu"])]
GpuMemory: TypeAlias = Annotated[str | None, option_of(_BY_NAME["gpu_memory"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlags:
    """What a command line says of a job.

    Attributes:
        values: those of the flags by name; None where one was not given.
        config: a YAML file that describes a job; None for none.
        settings: what `--set` was given.
    """

    values: Mapping[str, object]
    config: Path | None
    settings: Sequence[str]

    def read(self, *, data: Tree | None = None, source: str = "") -> tuple[JobSpec, tuple[str, ...]]:
        """The job, and the reasons for what it was given unasked; `data` in place of a file, called `source`.

        That is allocator settings of the environment, and what suits the model (`profiler.formula.chosen`).

        Raises:
            ConfigError: if the file and the flags describe no job.
        """
        from profiler.formula.chosen import choose_unnamed  # noqa: PLC0415 - not for --help

        if self.config is not None:
            data, source = read_yaml(self.config), str(self.config)
        spec, alloc_reason = read_job(
            self.values, data=data or {}, source=source, settings=self.settings, environ=os.environ
        )
        spec, reasons = choose_unnamed(spec)
        return spec, (alloc_reason, *reasons) if alloc_reason else reasons


def takes_job(**arguments: tuple[str, str]) -> Callable[[_Command], _Command]:
    """Gives a command with a parameter `job` of `JobFlags` the flags that it is made of.

    Args:
        arguments: another metavar and help than the field's own, by the name of an argument.
    """

    def decorate(command: _Command) -> _Command:
        own = inspect.signature(command, eval_str=True)
        flags = [_parameter(flag, *arguments.get(flag.name, (flag.label, flag.help))) for flag in JOB_FLAGS]
        flags += [_keyword("config", _Config), _keyword("set_", _Set)]
        others = [parameter for name, parameter in own.parameters.items() if name != "job"]

        @wraps(command)
        def run(*, config: Path | None, set_: list[str] | None, **given: Any) -> int:
            values = {flag.name: given.pop(flag.name) for flag in JOB_FLAGS}
            return command(job=JobFlags(values=values, config=config, settings=set_ or ()), **given)

        run.__signature__ = own.replace(parameters=[*flags, *others])  # type: ignore[attr-defined]
        return run

    return decorate


def _parameter(flag: JobFlag, metavar: str, text: str) -> inspect.Parameter:
    """A flag as typer reads it; numbers come as text, for the job's own check to refuse."""
    if flag.is_argument:
        return _keyword(flag.name, Annotated[str | None, typer.Argument(metavar=metavar, help=text)])
    return _keyword(flag.name, Annotated[(bool if flag.is_switch else str) | None, option_of(flag)])


def _keyword(name: str, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def read_gpu_memory(text: str | None) -> int | None:
    """The bytes that `--gpu-memory` asks for.

    Raises:
        ConfigError: it is no size.
    """
    if text is None:
        return None
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ConfigError(f"--gpu-memory: {error}", hint="write for example 24GiB") from None
