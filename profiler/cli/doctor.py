"""`peakvram doctor`: what this machine can do, and what to mend."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.errors import EnvironmentUnfitError
from profiler.report.terminal.output import data_output, print_json_value


def doctor(*, out: o.Out = Path("results/adhoc"), json: o.Json = False) -> int:
    """Check this machine and say what to mend.

    Looks at Python, torch, the libraries, GPUs, allocator settings and the disk, starts a virtual GPU, asks
    torch for what peakvram uses of its inside, and changes nothing.

    \b
    peakvram doctor
    peakvram doctor --json

    Exit codes: 0 it works, 3 something must be mended first.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.doctor.checks import Status  # noqa: PLC0415 - not for --help
    from profiler.doctor.machine import diagnose  # noqa: PLC0415 - not for --help
    from profiler.doctor.probes import probe_torch, probe_virtual  # noqa: PLC0415 - not for --help
    from profiler.report.terminal.doctor import show_diagnosis  # noqa: PLC0415 - not for --help

    diagnosis = diagnose(results_directory=out, probes=(probe_virtual, probe_torch))
    if json:
        print_json_value({"status": diagnosis.status, **asdict(diagnosis)})
    else:
        with data_output() as console:
            show_diagnosis(console, diagnosis)
    return EnvironmentUnfitError.exit_code if diagnosis.status is Status.FAIL else 0
