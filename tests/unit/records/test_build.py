from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from profiler.jobs.identity import job_key
from profiler.records.build import build_record
from profiler.records.schema import (
    Components,
    ComponentsAt,
    Outcome,
    OutcomeStatus,
    Peak,
    PhaseName,
    PhaseReading,
    Record,
)
from profiler.units import GIB, MIB
from tests.builders import AT, OK, a_job, a_phase, a_record, a_report, a_run

if TYPE_CHECKING:
    from collections.abc import Sequence

counts = st.integers(0, 2**45)
phases = st.builds(
    PhaseReading,
    name=st.sampled_from(PhaseName),
    step=st.none() | st.integers(0, 3),
    allocated_start_bytes=counts,
    allocated_end_bytes=counts,
    allocated_peak_bytes=counts,
    reserved_end_bytes=counts,
    reserved_peak_bytes=counts,
    device_used_peak_bytes=st.none() | counts,
    elapsed_s=st.none() | st.floats(0, 1e6),
    components=st.none() | st.builds(Components, weights_bytes=counts, other_bytes=counts),
)
runs = st.lists(phases, max_size=8).map(tuple)


def record_of(readings: Sequence[PhaseReading]) -> Record:
    return a_record(report=a_report(tuple(readings)))


@given(runs)
def test_a_record_survives_json(readings: tuple[PhaseReading, ...]) -> None:
    record = record_of(readings)
    assert Record.model_validate_json(record.model_dump_json()) == record


@given(runs)
def test_the_peak_is_the_largest_of_every_span(readings: tuple[PhaseReading, ...]) -> None:
    record = record_of(readings)
    for span in (record.peak_load, record.peak_step):
        assert span is None or (record.peak is not None and span.reserved_bytes <= record.peak.reserved_bytes)
    assert (record.peak is None) == (not readings)
    for reading in readings:
        assert record.peak is not None
        assert reading.allocated_peak_bytes <= record.peak.allocated_bytes
        assert (reading.device_used_peak_bytes or 0) <= (record.peak.device_used_bytes or 0)


@given(runs)
def test_components_are_those_of_the_phase_they_are_said_to_be_of(readings: tuple[PhaseReading, ...]) -> None:
    record = record_of(readings)
    if record.components_at is None:
        assert record.components is None
        return
    named = [
        r for r in readings if (r.name, r.step) == (record.components_at.phase, record.components_at.step)
    ]
    assert record.components in [reading.components for reading in named]


def test_loading_steps_and_the_whole_have_peaks_of_their_own() -> None:
    record = record_of(a_run())
    context = 426 * MIB
    assert record.peak_load == Peak(
        allocated_bytes=6 * GIB, reserved_bytes=6 * GIB, device_used_bytes=6 * GIB + context
    )
    assert record.peak_step == record.peak
    assert record.peak is not None
    assert record.peak.allocated_bytes == 10 * GIB


def test_steady_is_what_the_last_zero_grad_leaves() -> None:
    record = record_of(a_run())
    assert record.steady is not None
    assert record.steady.allocated_end_bytes == 6 * GIB


def test_components_are_of_the_fullest_phase_end_of_the_last_complete_step() -> None:
    record = record_of(a_run())
    assert record.components_at == ComponentsAt(phase=PhaseName.FORWARD, step=1)
    assert record.components is not None
    assert record.components.total_bytes == 8 * GIB


def test_a_step_cut_short_is_not_explained() -> None:
    cut = (*a_run(), a_phase(PhaseName.FORWARD, 2, end=20 * GIB))
    assert record_of(cut).components_at == ComponentsAt(phase=PhaseName.FORWARD, step=1)


def test_before_the_first_complete_step_the_last_phase_is_explained() -> None:
    assert record_of(a_run()[:5]).components_at == ComponentsAt(phase=PhaseName.BACKWARD, step=0)


def test_inference_has_the_peak_of_prefill_and_decode_and_nothing_steady() -> None:
    record = record_of(
        (
            a_phase(PhaseName.LOAD, end=5 * GIB, peak=9 * GIB),
            a_phase(PhaseName.PREFILL, end=7 * GIB, peak=8 * GIB),
            a_phase(PhaseName.DECODE, end=6 * GIB),
        )
    )
    assert record.peak_step is not None
    assert record.peak_step.allocated_bytes == 8 * GIB
    assert record.components_at == ComponentsAt(phase=PhaseName.PREFILL)
    assert record.steady is None


def test_a_job_that_ended_before_any_phase_has_no_figures() -> None:
    outcome = Outcome(status=OutcomeStatus.KILLED, signal=9)
    record = build_record(spec=a_job(), report=None, outcome=outcome, created_at=AT)
    assert (record.peak, record.steady, record.components, record.phases) == (None, None, None, ())
    assert record.key == job_key(a_job())


def test_a_record_tells_its_time_in_utc() -> None:
    tokyo = datetime(2026, 11, 22, 1, 0, tzinfo=timezone(timedelta(hours=9)))
    record = build_record(spec=a_job(), report=None, outcome=OK, created_at=tokyo)
    assert '"created_at":"2026-11-21T16:00:00Z"' in record.model_dump_json()


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError):
        build_record(spec=a_job(), report=None, outcome=OK, created_at=datetime(2026, 11, 22))


def test_components_add_up() -> None:
    names = list(Components.model_fields)
    assert Components(**{name: 2**i for i, name in enumerate(names)}).total_bytes == 2 ** len(names) - 1
