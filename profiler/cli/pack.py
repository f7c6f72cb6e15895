"""`peakvram pack`: a finished study in one file."""

from __future__ import annotations

from typing import Annotated

from profiler.cli import options as o
from profiler.records.pack import pack_study
from profiler.records.store import RecordStore
from profiler.report.base.text import literal
from profiler.report.terminal.output import data_output, notice, print_json_value

Remove = Annotated[
    bool, o.switch("--remove", "Then delete the loose files, once the pack is found to hold them.")
]


def pack(*, directory: o.StudyDirectory, remove: Remove = False, json: o.Json = False) -> int:
    """Pack the records of a study into one file that reads the same.

    DIR/records.jsonl.gz holds one record a line. A later sweep goes on beside it; packing again joins both.

    \b
    peakvram pack results/smoke
    peakvram pack results/smoke --remove

    Exit codes: 0 done, 2 nothing to pack or a damaged pack, 3 it cannot be written.
    """  # noqa: D301 - \b keeps the examples' lines apart
    packed = pack_study(RecordStore(directory), remove=remove)
    for problem in packed.problems:
        notice(f"left alone {problem.path}: {problem.reason}")
    if json:
        facts = {"path": str(packed.path), "num_records": packed.num_records, "num_bytes": packed.num_bytes}
        print_json_value({**facts, "num_removed": len(packed.removed)})
        return 0
    with data_output() as console:
        if remove:
            console.print(literal(f"Removed {len(packed.removed)} files it holds"))
        console.print(literal(f"Wrote {packed.num_records} records to {packed.path}"), soft_wrap=True)
    return 0
