from __future__ import annotations

from profiler.records.schema import Components, device_peak_bytes
from profiler.report.base.parts import AT_THE_PEAK, COLOURS, CONTEXT, GROUPS, RESERVED, parts_of
from profiler.units import GIB, MIB
from tests.builders import a_device, a_record, a_report


def test_every_component_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(Components.model_fields)


def test_every_part_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == {*GROUPS, AT_THE_PEAK, RESERVED, CONTEXT}
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_the_parts_add_up_to_device_memory() -> None:
    record = a_record()
    parts = parts_of(record)
    assert sum(parts.values()) == device_peak_bytes(record) == 10 * GIB + 426 * MIB
    assert parts[AT_THE_PEAK] == 2 * GIB  # 8 GiB were counted, 10 GiB were held
    assert parts[CONTEXT] == 426 * MIB
    assert RESERVED not in parts  # none of it


def test_without_a_known_context_they_add_up_to_reserved_memory() -> None:
    phases = tuple(phase.model_copy(update={"device_used_peak_bytes": None}) for phase in a_report().phases)
    record = a_record(report=a_report(phases, device=a_device(context_bytes=None, device_used_source="none")))
    assert record.peak is not None
    assert sum(parts_of(record).values()) == record.peak.reserved_bytes
