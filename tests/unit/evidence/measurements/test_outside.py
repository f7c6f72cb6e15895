from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.evidence.measurements.outside import Reading, load_outside, outside_of
from profiler.hardware.catalogue import Gpu, load_catalogue
from profiler.hardware.sheet import Generation
from profiler.units import MIB

if TYPE_CHECKING:
    from pathlib import Path


def a_reading(num_sms: int, outside: int, generation: Generation = Generation.ADA) -> Reading:
    return Reading(
        gpu="a card",
        generation=generation,
        num_sms=num_sms,
        in_use=1000 * MIB + outside,
        allocated=900 * MIB,
        unallocated=100 * MIB,
        source="github.com/someone/somewhere/issues/1",
        date="2026-01-01",
    )


def test_outside_is_what_is_neither_allocated_nor_kept() -> None:
    assert a_reading(100, 300 * MIB).outside_bytes == 300 * MIB


def test_shipped_readings_are_of_the_size_of_a_context_and_name_their_threads() -> None:
    for reading in load_outside().readings:
        assert 128 * MIB < reading.outside_bytes < 1024 * MIB, reading.gpu
        assert "github.com/" in reading.source


def test_a_reading_that_rests_on_a_virtual_figure_says_so() -> None:
    (derived,) = (reading for reading in load_outside().readings if reading.is_virtual)
    assert derived.outside_bytes == 525 * MIB


def test_a_chip_with_readings_takes_their_median() -> None:
    readings = [a_reading(100, 400 * MIB), a_reading(100, 500 * MIB), a_reading(50, 200 * MIB)]
    assert outside_of(100, Generation.ADA, readings).typical_bytes == 450 * MIB


def test_a_chip_of_another_generation_takes_the_line() -> None:
    readings = [a_reading(50, 200 * MIB), a_reading(100, 400 * MIB)]
    found = outside_of(75, Generation.HOPPER, readings)
    assert (found.low_bytes, found.typical_bytes, found.high_bytes) == (300 * MIB,) * 3


@given(
    st.lists(st.tuples(st.integers(20, 200), st.integers(0, 2**30)), min_size=2, unique_by=lambda p: p[0]),
    st.integers(20, 200),
)
def test_the_spread_covers_the_typical_figure(points: list[tuple[int, int]], num_sms: int) -> None:
    found = outside_of(num_sms, Generation.ADA, [a_reading(x, y) for x, y in points])
    assert found.low_bytes <= max(0, found.typical_bytes) <= max(0, found.high_bytes)


def test_a_reading_without_a_source_is_refused(tmp_path: Path) -> None:
    tree = {"readings": [a_reading(100, MIB).model_dump(mode="json", exclude={"source"})] * 2}
    path = tmp_path / "outside.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(ConfigError, match="source"):
        load_outside(path)


CARRIED_OVER = {"h200", "b200"}  # from the H100, which the readings are not of


@pytest.mark.parametrize(
    "gpu",
    [gpu for gpu in load_catalogue().values() if not gpu.context_is_measured and gpu.id not in CARRIED_OVER],
    ids=lambda gpu: gpu.id,
)
def test_a_card_without_a_figure_of_its_own_takes_that_of_the_readings(gpu: Gpu) -> None:
    outside = outside_of(gpu.num_sms, gpu.generation, load_outside().readings)
    expected = [outside.low_bytes, outside.typical_bytes, outside.high_bytes]
    figures = [gpu.context_low_bytes, gpu.context_bytes, gpu.context_high_bytes]
    assert figures == pytest.approx(expected, abs=MIB // 2)
