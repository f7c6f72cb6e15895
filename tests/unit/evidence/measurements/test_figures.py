from __future__ import annotations

import pytest

from profiler.evidence.measurements.figures import (
    COMPARABLE,
    RecordFigure,
    last_step_reserved_bytes,
    read_figure,
)
from profiler.evidence.measurements.published import Metric
from profiler.records.schema import PhaseName, Record
from profiler.units import GIB, MIB
from tests.unit.evidence.measurements.rows import a_trained_record


@pytest.mark.parametrize("metric", list(Metric))
def test_every_metric_says_what_it_may_be_compared_with(metric: Metric) -> None:
    assert metric in COMPARABLE


def test_no_figure_answers_to_two_kinds_of_metric() -> None:
    figures = [figure for allowed in COMPARABLE.values() for figure in allowed]
    assert len(figures) == len(set(figures)) == len(RecordFigure)


def test_figures_are_read_from_where_their_paths_say() -> None:
    record = a_trained_record(peak_bytes=3 * GIB, end_bytes=GIB)
    tree = record.model_dump()
    for figure in RecordFigure:
        first, _, rest = figure.value.partition(".")
        if first != "last_step":
            assert read_figure(record, figure) == tree[first][rest]


def test_the_last_step_leaves_out_what_an_earlier_one_held() -> None:
    record = a_trained_record(peak_bytes=3 * GIB, end_bytes=GIB)
    forwards = [phase for phase in record.phases if phase.name is PhaseName.FORWARD]
    first, last = forwards
    larger = first.model_copy(
        update={"reserved_peak_bytes": 9 * GIB, "device_used_peak_bytes": 9 * GIB + 426 * MIB}
    )
    phases = tuple(larger if phase is first else phase for phase in record.phases)
    changed = record.model_copy(update={"phases": phases})
    assert read_figure(changed, RecordFigure.LAST_STEP_DEVICE_USED) == last.device_used_peak_bytes
    assert last_step_reserved_bytes(changed) == last.reserved_peak_bytes


def test_a_record_without_steps_has_no_figure_of_them() -> None:
    record = a_trained_record(peak_bytes=GIB, end_bytes=GIB)
    empty = Record.model_validate(
        record.model_dump() | {"phases": (), "peak_step": None, "steady": None, "peak": None}
    )
    assert all(read_figure(empty, figure) is None for figure in RecordFigure)
    assert last_step_reserved_bytes(empty) is None
