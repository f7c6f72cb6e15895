from __future__ import annotations

import re
from typing import Any

import pytest

from profiler.records.fingerprint import fingerprint, fingerprint_of, identity_of
from tests.builders import a_device, a_real_device, a_record, an_environment


def test_a_fingerprint_does_not_change_between_releases() -> None:
    """Records written by an earlier version are found by it: change the schema tag when this must change."""
    assert fingerprint(an_environment(), a_device()) == "a2fa152ccbc5"


def test_a_fingerprint_is_twelve_hex_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", fingerprint(an_environment(), a_real_device()))


@pytest.mark.parametrize(
    "changes",
    [
        {"torch": "2.15.0"},
        {"cuda": "12.8"},
        {"transformers": "5.0"},
        {"peft": "0.22"},
        {"bitsandbytes": "0.51"},
        {"accelerate": "2.0"},
        {"driver": "590.10"},
        {"alloc_conf": "expandable_segments:True"},
        {"variables": {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}},
    ],
    ids=str,
)
def test_what_may_change_memory_counts(changes: dict[str, Any]) -> None:
    assert fingerprint(an_environment(**changes), a_device()) != fingerprint(an_environment(), a_device())


@pytest.mark.parametrize(
    "changes",
    [
        {"peakvram": "9.9"},
        {"python": "3.14.0"},
        {"platform": "Linux-9"},
        {"hostname": "elsewhere"},
        {"git": "abc-dirty"},
        {"variables": {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "4"}},
    ],
    ids=str,
)
def test_what_changes_no_byte_does_not_count(changes: dict[str, Any]) -> None:
    assert fingerprint(an_environment(**changes), a_device()) == fingerprint(an_environment(), a_device())


def test_the_drivers_minor_version_does_not_count() -> None:
    one, other = (fingerprint(an_environment(driver=d), a_device()) for d in ("580.65.06", "580.95"))
    assert one == other


@pytest.mark.parametrize("changes", [{"id": "a40"}, {"total_bytes": 2**40}, {"context_bytes": 1}], ids=str)
def test_a_virtual_cards_figures_count(changes: dict[str, Any]) -> None:
    assert fingerprint(an_environment(), a_device(**changes)) != fingerprint(an_environment(), a_device())


def test_a_real_card_is_known_by_name_before_and_after_a_run() -> None:
    """The driver's total before a run and torch's in it differ, and so do two cards of one model."""
    changes = {"total_bytes": 85_899_345_920, "context_bytes": 500_000_000, "uuid": "GPU-1", "num_sms": 0}
    after = fingerprint(an_environment(), a_real_device())
    assert fingerprint(an_environment(), a_real_device(**changes)) == after
    assert fingerprint(an_environment(), a_real_device(id="nvidia-h100-80gb-hbm3")) != after


def test_a_virtual_card_is_never_a_real_one() -> None:
    virtual, real = a_device(), a_real_device(id="rtx-4090")
    assert fingerprint(an_environment(), virtual) != fingerprint(an_environment(), real)


def test_a_record_without_surroundings_has_none() -> None:
    record = a_record().model_copy(update={"device": None})
    assert fingerprint_of(record) is None
    assert identity_of(record) == (record.key, None)
