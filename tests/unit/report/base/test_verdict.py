from __future__ import annotations

from profiler.records.schema import PhaseName, Record
from profiler.report.base.verdict import verdict_line
from profiler.units import GIB, MIB
from tests.builders import a_device, a_phase, a_real_device, a_record, a_report


def a_record_of(*, device: object, reserved: int, used: int | None) -> Record:
    phase = a_phase(PhaseName.LOAD, end=GIB, reserved_peak_bytes=reserved, device_used_peak_bytes=used)
    return a_record(report=a_report((phase,), device=device))


def test_a_card_filled_to_the_last_byte_fits() -> None:
    device = a_device(total_bytes=3 * GIB, context_bytes=GIB)
    record = a_record_of(device=device, reserved=2 * GIB, used=3 * GIB)
    assert verdict_line(record).endswith("fits, 0 B free")


def test_one_byte_too_much_does_not_fit() -> None:
    device = a_device(total_bytes=3 * GIB - 1, context_bytes=GIB)
    record = a_record_of(device=device, reserved=2 * GIB, used=None)
    assert verdict_line(record).endswith("does not fit, 1 B too much")


def test_without_the_contexts_size_no_fit_is_claimed() -> None:
    device = a_real_device(device_used_source="none", context_bytes=None, total_bytes=3 * GIB)
    line = verdict_line(a_record_of(device=device, reserved=3 * GIB - MIB, used=None))
    assert "fits" not in line
    assert line.endswith("1.00 MiB left for the CUDA context, whose size is not known")
