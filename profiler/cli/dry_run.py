"""What `--dry-run` says: whether a job can run, with nothing run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.errors import PeakvramError
from profiler.report.base.text import literal
from profiler.report.terminal.output import data_output, print_json_value

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec


def say_whether_it_can_run(spec: JobSpec, *, as_json: bool) -> int:
    """Asks the judge and the list of cards; returns the exit code.

    Raises:
        PeakvramError: it cannot; with JSON that is printed, too.
    """
    from profiler.formula.runnable import check_runnable  # noqa: PLC0415 - `run --help` needs none of it
    from profiler.hardware.discovery import choose_device  # noqa: PLC0415 - not for --help

    try:
        check_runnable(spec)
        choice = choose_device(spec.gpu, gpu_memory_bytes=spec.gpu_memory_bytes)
    except PeakvramError as error:
        if not as_json:
            raise
        reason = {"message": error.message, "hint": error.hint}
        print_json_value({"can_run": False, **reason, "job": spec.model_dump(mode="json")})
        return error.exit_code
    if as_json:
        print_json_value({"can_run": True, "gpu": choice.gpu.name, "job": spec.model_dump(mode="json")})
        return 0
    with data_output() as console:
        console.print(literal(f"{spec.model} can run on {choice.gpu.name}: {choice.reason}"), soft_wrap=True)
    return 0
