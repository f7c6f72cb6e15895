from __future__ import annotations

from typing import TYPE_CHECKING, cast

from profiler.measure.host import ComputedHost, MeasuredHost
from profiler.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.virtual.state import StateLayout


class Managed:
    """What a virtual machine says of its managed memory."""

    managed_bytes = managed_peak_bytes = 0

    def hold(self, size_bytes: int) -> None:
        self.managed_bytes = size_bytes
        self.managed_peak_bytes = max(self.managed_peak_bytes, size_bytes)


def peak_of(host: ComputedHost) -> tuple[int, int | None]:
    told = host.peak()
    assert told.source == "computed"
    return told.peak_bytes, told.mapped_bytes


def test_a_measured_peak_is_of_its_own_span() -> None:
    host = MeasuredHost()
    host.reset_peak()
    taken = bytearray(b"x") * (200 * MIB)
    first = host.peak()
    del taken
    host.reset_peak()
    second = host.peak()
    assert first is not None
    assert second is not None
    assert first.source == second.source == "measured"
    assert 180 * MIB < first.peak_bytes - second.peak_bytes < 220 * MIB
    assert not host.problem


def test_where_the_kernel_lets_no_peak_begin_anew_there_is_none_and_a_reason(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmHWM:\t  2048 kB\n")
    (tmp_path / "clear_refs").mkdir()
    host = MeasuredHost(tmp_path)
    host.reset_peak()
    assert host.peak() is None
    assert host.problem == f"{tmp_path}/clear_refs: Is a directory"


def test_a_kernel_that_tells_no_peak_has_none(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmRSS:\t  2048 kB\n")
    assert MeasuredHost(tmp_path).peak() is None


def test_what_is_held_at_one_time_is_the_peak() -> None:
    host = ComputedHost()
    host.map(100)
    host.take(30)
    host.pass_through(50)
    host.map(-100)
    host.pass_through(60)
    assert peak_of(host) == (180, 100)


def test_a_span_begins_with_what_is_still_held_and_ends_without_what_was_let_go() -> None:
    host = ComputedHost()
    host.take(30)
    host.pass_through(50)
    host.reset_peak()
    assert peak_of(host) == (30, 0)
    host.let_go()
    host.reset_peak()
    assert peak_of(host) == (0, 0)


def test_managed_memory_counts_in_the_span_in_which_it_was_held() -> None:
    managed = Managed()
    host = ComputedHost(cast("StateLayout", managed))
    managed.hold(500)
    managed.hold(200)
    assert peak_of(host) == (500, 0)
    host.reset_peak()
    assert peak_of(host) == (200, 0)
