from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profiler.formula.configs import config_of
from profiler.formula.derived import shelf
from profiler.formula.derived.file import DerivedFile, DerivedOn, pack_derived
from profiler.formula.derived.identity import derived_key
from profiler.formula.derived.shelf import cache_dir, can_be_derived, file_name, find_derived
from tests.builders import a_job
from tests.unit.formula.derived.files import a_file, pack_text

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec

HERE = {"torch": "2.14.1", "transformers": "5.23.0", "bitsandbytes": None}
BEFORE = {"torch": "2.9.1", "transformers": "5.23.0", "bitsandbytes": None}
JOB = a_job(method="lora")


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and a package of the test's own, and known versions."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shelf, "configs_dir", lambda: tmp_path / "configs")
    monkeypatch.setattr(shelf, "library_versions", lambda: HERE)


def key_of(job: JobSpec) -> str:
    config = config_of(job.model)
    assert config is not None
    return derived_key(job, config)


def put(place: Path, *, card: str = "rtx-4090", job: JobSpec = JOB, **changes: Any) -> DerivedFile:
    """Lays a formula of the job there; how many runs it took tells it from others."""
    values: dict[str, Any] = {
        "key": key_of(job),
        "versions": HERE,
        "card": DerivedOn(id=card, compute_capability="8.9", num_sms=128),
    }
    file = a_file(**(values | changes))
    place.mkdir(parents=True, exist_ok=True)
    (place / file_name(file, job.method.kind)).write_bytes(pack_derived(file))
    return file


def found(job: JobSpec = JOB, card: str = "rtx-4090") -> tuple[DerivedFile | None, tuple[str, ...]]:
    on_shelf = find_derived(job, card_id=card)
    return on_shelf.formula.file if on_shelf.formula else None, on_shelf.notes


def test_where_nothing_was_derived_there_is_nothing() -> None:
    assert found() == (None, ())


def test_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_dir() == tmp_path / "cache" / "peakvram" / "derived"
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_dir() == Path.home() / ".cache" / "peakvram" / "derived"


def test_what_was_derived_for_the_job_is_found_whatever_its_batch() -> None:
    file = put(cache_dir())
    assert found() == (file, ())
    assert found(a_job(method="lora", batch_size=9, seq_len=77)) == (file, ())
    assert found(a_job(method="full")) == (None, ())


def test_what_is_shipped_is_found_too_and_what_was_derived_here_comes_first() -> None:
    shipped = put(shelf.shipped_dir(), num_runs=1)
    assert found() == (shipped, ())
    own = put(cache_dir(), num_runs=2)
    assert found() == (own, ())


def test_the_versions_matter_most_then_the_card() -> None:
    others = put(cache_dir(), card="a100-80gb", versions=BEFORE)
    assert found()[0] == others
    same_card = put(cache_dir(), versions=BEFORE)
    assert found()[0] == same_card
    same_versions = put(shelf.shipped_dir(), card="a100-80gb")
    assert found()[0] == same_versions
    nearest = put(shelf.shipped_dir())
    assert found() == (nearest, ())


def test_what_differs_is_told() -> None:
    put(cache_dir(), card="a100-80gb", versions=BEFORE)
    assert found()[1] == (
        "derived with torch 2.9.1 (here 2.14.1): other versions may take other bytes",
        "derived on a virtual a100-80gb: on rtx-4090 kernels may take other temporaries",
    )


def test_a_library_that_is_not_here_or_was_not_there_is_no_difference() -> None:
    put(cache_dir(), versions={"torch": "2.14.1", "bitsandbytes": "0.50"})
    assert found()[1] == ()


def test_a_damaged_file_is_told_and_the_next_one_taken() -> None:
    good = put(shelf.shipped_dir())
    bad = cache_dir() / file_name(put(cache_dir()), JOB.method.kind)
    pack_text(bad, "{}")
    file, notes = found()
    assert file == good
    assert notes == (f"{bad} is no derived formula: key: field required; the estimate goes on without it",)


def test_a_file_under_the_name_of_another_job_is_left() -> None:
    put(cache_dir())
    (path,) = cache_dir().iterdir()
    path.write_bytes(pack_derived(a_file()))
    assert found() == (
        None,
        (f"{path} is of another job than its name says; the estimate goes on without it",),
    )


def test_what_is_no_file_is_told() -> None:
    put(cache_dir())
    (path,) = cache_dir().iterdir()
    path.unlink()
    os.mkfifo(path)
    file, (note,) = found()
    assert file is None
    assert note == f"cannot read {path}: it is no file; the estimate goes on without it"


def test_a_cache_that_is_no_directory_has_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    assert found() == (None, ())


def test_inference_has_no_derived_formula() -> None:
    assert not can_be_derived(a_job(method="inference"))
    assert found(a_job(method="inference")) == (None, ())


def test_a_model_that_is_not_on_this_machine_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert found(a_job(model="some-body/some-model", method="lora")) == (None, ())


def test_the_name_of_a_file_has_no_directory_in_it() -> None:
    file = a_file(model="/home/some/../where/my-model")
    assert file_name(file, "lora").startswith("my-model--lora--rtx-4090--0000000000000000--")
    assert Path(file_name(a_file(model="/"), "lora")).name.startswith("model--")
