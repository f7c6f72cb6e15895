from __future__ import annotations

from profiler.records.schema import PhaseName, Record, device_peak_bytes
from profiler.units import GIB
from tests.builders import a_device, a_phase, a_real_device, a_record, a_report


def a_record_of(*, device: object, reserved: int, used: int | None) -> Record:
    phase = a_phase(PhaseName.LOAD, end=GIB, reserved_peak_bytes=reserved, device_used_peak_bytes=used)
    return a_record(report=a_report((phase,), device=device))


def test_context_and_reserved_count_where_the_card_says_less() -> None:
    record = a_record_of(device=a_device(context_bytes=GIB), reserved=2 * GIB, used=2 * GIB)
    assert device_peak_bytes(record) == 3 * GIB


def test_the_cards_own_figure_counts_where_it_is_more() -> None:
    record = a_record_of(device=a_real_device(context_bytes=GIB), reserved=2 * GIB, used=5 * GIB)
    assert device_peak_bytes(record) == 5 * GIB
