"""What a table of records looks like: one row a record, a column a figure, for pandas, CSV and Parquet."""

from __future__ import annotations

import io
import itertools
import types
import typing
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from profiler.errors import ConfigError
from profiler.files import write_chunks
from profiler.jobs.job import METHODS, GradientCheckpointing, JobSpec
from profiler.records.fingerprint import fingerprint_of
from profiler.records.naming import record_file_name
from profiler.records.schema import (
    CLOSING_PHASES,
    GENERATION_PHASES,
    Components,
    ComponentsAt,
    Device,
    Environment,
    Outcome,
    Parameters,
    Peak,
    PhaseName,
    Record,
    Steady,
    last_step,
)
from profiler.text import as_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import pandas as pd
    from pydantic import BaseModel

Dtype: TypeAlias = Literal["string", "Int64", "Float64", "boolean", "datetime64[us, UTC]"]
"""pandas' types that can tell a missing value from 0 and from an empty text."""

STEP_PHASES = (PhaseName.FORWARD, PhaseName.BACKWARD, PhaseName.CLIP, PhaseName.STEP, PhaseName.ZERO_GRAD)
_SINGLE_PHASES = (*CLOSING_PHASES, *GENERATION_PHASES)
"""Phases that come once, beside those of a step."""
_HOST_PHASES = (PhaseName.LOAD, *CLOSING_PHASES)
"""Phases that put much on the host."""
_ROWS_A_PART = 5000
_PHASE_FIGURES = ("allocated_peak_bytes", "reserved_peak_bytes", "device_used_peak_bytes")
_PARTS: Mapping[str, type[BaseModel]] = types.MappingProxyType(
    {
        "outcome": Outcome,
        "device": Device,
        "environment": Environment,
        "peak": Peak,
        "peak_load": Peak,
        "peak_step": Peak,
        "steady": Steady,
        "components": Components,
        "components_at": ComponentsAt,
        "parameters": Parameters,
    }
)


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """A tidy table: one row a record, in their order; `docs/records-table.md` says what each column is.

    The job's fields have the names they have in a job (`seq_len`, `method.rank`), everything else the path it
    has in a record (`peak.allocated_bytes`). A field that a record does not have is missing, never 0.
    The records may come as a stream: no more than the table is kept of them.
    """
    import pandas as pd  # noqa: PLC0415 - half a second that `--help` need not wait for

    parts = list(_frames(records))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _frames(records: Iterable[Record]) -> Iterator[pd.DataFrame]:
    """The table in parts of some thousand rows; one without rows if there is no record."""
    import pandas as pd  # noqa: PLC0415 - not every reader of records wants a table

    rest, is_first = iter(records), True
    while (columns := _columns(itertools.islice(rest, _ROWS_A_PART)))["key"] or is_first:
        is_first = False
        dtypes = table_columns()
        yield pd.DataFrame({name: pd.Series(own, dtype=dtypes[name]) for name, own in columns.items()})


def _columns(records: Iterable[Record]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {name: [] for name in table_columns()}
    for record in records:
        row = _row(record)
        for name, values in columns.items():
            values.append(row.get(name))
    return columns


@cache
def table_columns() -> Mapping[str, Dtype]:
    """Every column of the table and its type, in order; the same for every study."""
    columns: dict[str, Dtype] = {
        "record": "string",
        "key": "string",
        "fingerprint": "string",
        "created_at": "datetime64[us, UTC]",
    }
    columns |= _columns_of(JobSpec, leave_out=("method", "gradient_checkpointing"))
    for method in METHODS.values():
        columns |= _columns_of(method, prefix="method.")
    columns |= _columns_of(GradientCheckpointing, prefix="gradient_checkpointing.")
    for name, part in _PARTS.items():
        columns |= _columns_of(part, prefix=f"{name}.")
    for phase in STEP_PHASES:
        columns |= {f"last_step.{phase}.{figure}": "Int64" for figure in _PHASE_FIGURES}
    for phase in _SINGLE_PHASES:
        columns |= {f"{phase}.{figure}": "Int64" for figure in _PHASE_FIGURES}
    columns |= {"host.source": "string", "host.peak_bytes": "Int64"}
    columns |= {f"{phase}.host_peak_bytes": "Int64" for phase in _HOST_PHASES}
    columns |= {"managed_bytes": "Int64", "num_alloc_retries": "Int64", "num_ooms": "Int64"}
    columns |= {"value_reads.unknown": "Int64", "notes": "string"}
    return types.MappingProxyType(columns)


def write_table(records: Iterable[Record], path: Path) -> None:
    """Writes the table as CSV or Parquet, whichever the file's name ends in; whole or not at all.

    Raises:
        ConfigError: if the name ends in neither.
        EnvironmentUnfitError: if the file cannot be written.
    """
    if path.suffix not in {".csv", ".parquet"}:
        raise ConfigError(f"{path} is neither .csv nor .parquet", hint="write for example records.parquet")
    write_frame(to_frame(records), path)


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table of records: Parquet has its texts as they are, CSV as `as_cell` makes them safe.

    Raises:
        EnvironmentUnfitError: if the file cannot be written.
    """
    if path.suffix == ".csv":
        write_chunks(path, _csv_pieces(frame))
    else:
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        write_chunks(path, (buffer.getvalue(),))


def _csv_pieces(frame: pd.DataFrame) -> Iterator[bytes]:
    texts = [name for name, dtype in table_columns().items() if dtype == "string"]
    for start in range(0, max(len(frame), 1), _ROWS_A_PART):
        part = frame.iloc[start : start + _ROWS_A_PART]
        part = part.assign(**{name: part[name].map(as_cell, na_action="ignore") for name in texts})
        yield part.to_csv(index=False, header=not start, lineterminator="\n").encode()


def _row(record: Record) -> dict[str, object]:
    tree = record.model_dump(mode="json")
    row: dict[str, object] = {
        "record": record_file_name(record),
        "key": record.key,
        "fingerprint": fingerprint_of(record),
        "created_at": record.created_at,
        "managed_bytes": record.managed_bytes,
        "num_alloc_retries": sum(phase.num_alloc_retries for phase in record.phases),
        "num_ooms": sum(phase.num_ooms for phase in record.phases),
        "value_reads.unknown": record.value_reads.unknown if record.value_reads else None,
        "notes": "; ".join(record.notes),
    }
    row |= _flat("", tree["spec"])
    for name in _PARTS:
        row |= _flat(f"{name}.", tree[name] or {})
    for phase in last_step(record.phases):
        for figure in _PHASE_FIGURES:
            column = f"last_step.{phase.name}.{figure}"
            row[column] = _larger(row.get(column), getattr(phase, figure))  # of micro batches the highest
    for phase in record.phases:
        if phase.name in _SINGLE_PHASES and phase.is_complete:
            row |= {f"{phase.name}.{figure}": getattr(phase, figure) for figure in _PHASE_FIGURES}
    return row | dict(_host_row(record))


def _host_row(record: Record) -> Iterator[tuple[str, object]]:
    hosts = [(phase, phase.host) for phase in record.phases if phase.host is not None]
    if hosts:
        yield "host.source", hosts[0][1].source
        yield "host.peak_bytes", max(host.peak_bytes for _, host in hosts)
    for phase, host in hosts:
        if phase.name in _HOST_PHASES and phase.is_complete:
            yield f"{phase.name}.host_peak_bytes", host.peak_bytes


def _larger(one: object, other: int | None) -> int | None:
    return max((figure for figure in (one, other) if isinstance(figure, int)), default=None)


def _flat(prefix: str, tree: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        match value:
            case dict() if name == "variables":
                yield f"{prefix}{name}", " ".join(f"{key}={text}" for key, text in sorted(value.items()))
            case dict():
                yield from _flat(f"{prefix}{name}.", value)
            case list():
                yield f"{prefix}{name}", ",".join(map(str, value))
            case _:
                yield f"{prefix}{name}", value


def _columns_of(
    part: type[BaseModel], *, prefix: str = "", leave_out: tuple[str, ...] = ()
) -> Iterator[tuple[str, Dtype]]:
    for name, field in part.model_fields.items():
        if name not in leave_out:
            yield f"{prefix}{name}", _dtype(field.annotation)


def _dtype(annotation: object) -> Dtype:
    kinds = set(_kinds(annotation))
    for kind, dtype in ((bool, "boolean"), (int, "Int64"), (float, "Float64")):
        if kind in kinds:
            return typing.cast("Dtype", dtype)
    return "string"


def _kinds(annotation: object) -> Iterator[object]:
    """The types a field may have, such as `int` and `None` of `Annotated[int, ...] | None`."""
    if typing.get_origin(annotation) is typing.Annotated:
        yield from _kinds(typing.get_args(annotation)[0])
    elif typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        for part in typing.get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation
