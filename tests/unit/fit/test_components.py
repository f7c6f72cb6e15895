from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.fit.case import make_case
from profiler.fit.components import term_errors
from profiler.fit.sample import sample_of
from profiler.formula.catalogue import find_formula
from profiler.formula.configs import architecture_of
from profiler.records.schema import Components, Parameters, PhaseName
from tests.builders import a_job, a_phase, a_record, a_report
from tests.unit.fit.made_up import MADE_UP

if TYPE_CHECKING:
    from profiler.fit.components import TermError
    from profiler.records.schema import Record

NUM_PARAMETERS = architecture_of("smollm2-135m").num_parameters
PEAK = 20 * NUM_PARAMETERS


def a_counted_record(**components: int) -> Record:
    """A record whose every phase ends with these components."""
    counted = Components(**components)
    phases = tuple(
        a_phase(name, step, end=0, peak=PEAK, components=counted)
        for name, step in (
            (PhaseName.OPTIMIZER, None),
            (PhaseName.FORWARD, 0),
            (PhaseName.BACKWARD, 0),
            (PhaseName.STEP, 0),
        )
    )
    report = a_report(phases=phases, parameters=Parameters(total=1, trainable=1))
    return a_record(spec=a_job(model="smollm2-135m", method="full"), report=report)


def errors(*records: Record) -> dict[str, TermError]:
    sample = sample_of(records, studies=[])
    return {error.component: error for error in term_errors(make_case(MADE_UP, sample), sample)}


def test_each_term_stands_beside_its_tensors() -> None:
    found = errors(
        a_counted_record(
            weights_bytes=NUM_PARAMETERS, optimizer_bytes=5 * NUM_PARAMETERS, activations_bytes=1
        )
    )
    weights, states = found["weights"], found["optimizer state"]
    assert (weights.terms, weights.num_jobs) == (("weights",), 1)
    assert (weights.median, weights.bias) == (1.0, 1.0)  # 2 bytes a parameter where 1 was counted
    assert weights.of_peak == pytest.approx(1 / 20)
    assert states.median == pytest.approx(0.2)
    assert states.bias == pytest.approx(-0.2)
    assert set(found) == {"weights", "optimizer state", "activations"}  # it has no term for the others


def test_the_state_of_quantization_counts_as_weights() -> None:
    found = errors(a_counted_record(weights_bytes=NUM_PARAMETERS, quantization_state_bytes=NUM_PARAMETERS))
    assert found["weights"].bias == 0.0


def test_tensors_that_no_job_has_are_left_out() -> None:
    assert "optimizer state" not in errors(a_counted_record(weights_bytes=1))


def test_records_without_counts_tell_nothing() -> None:
    phase = a_phase(PhaseName.OPTIMIZER, end=0, peak=PEAK, components=None)
    report = a_report(phases=(phase,), parameters=Parameters(total=1, trainable=1))
    record = a_record(spec=a_job(model="smollm2-135m", method="full"), report=report)
    assert errors(record) == {}


def test_a_formula_that_draws_its_lines_elsewhere_is_not_compared() -> None:
    sample = sample_of([a_counted_record(weights_bytes=1, activations_bytes=1)], studies=[])
    ours = make_case(find_formula("peakvram"), sample)
    assert {error.component for error in term_errors(ours, sample)} == {"weights"}
