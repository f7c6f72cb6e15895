from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from profiler.errors import ConfigError
from profiler.evidence.measurements.environments import find_library_set
from profiler.evidence.measurements.figures import COMPARABLE
from profiler.evidence.measurements.mapping import Mapped, load_mapping
from profiler.evidence.measurements.published import Grade, load_measurements, published_dir
from profiler.hardware.catalogue import find_gpu
from profiler.jobs.identity import job_key
from profiler.jobs.models import read_config, resolve_model
from tests.unit.evidence.measurements.rows import a_measurement

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def shipped() -> Mapped:
    return load_mapping(load_measurements())


def test_every_row_of_grade_a_or_b_is_mapped_or_refused_exactly_once(shipped: Mapped) -> None:
    named = Counter(row.measurement.id for row in shipped.rows)
    named += Counter(row.measurement.id for row in shipped.refused)
    wanted = {row.id for row in load_measurements().values() if row.grade is not Grade.C}
    assert set(named) == wanted
    assert set(named.values()) == {1}


def test_every_refused_row_has_a_reason(shipped: Mapped) -> None:
    assert all(row.reason.strip() for row in shipped.refused)


def test_every_mapped_row_is_compared_with_a_figure_of_its_own_kind(shipped: Mapped) -> None:
    for row in shipped.rows:
        assert row.figure in COMPARABLE[row.measurement.metric], row.measurement.id


def test_every_mapped_row_says_what_differs_in_the_set_up(shipped: Mapped) -> None:
    assert all(row.differs for row in shipped.rows)


def test_jobs_say_what_their_rows_say_of_batch_length_rank_and_checkpointing(shipped: Mapped) -> None:
    for row in shipped.rows:
        published, job = row.measurement.settings, row.job
        assert job.batch_size == int(published["batch_size"]), row.measurement.id
        assert job.seq_len == int(published["seq_len"])
        assert job.gradient_checkpointing.enabled is (published["grad_checkpointing"] == "true")
        assert job.method.kind == published["method"]
        rank = getattr(job.method, "rank", None)
        assert rank == (int(float(published["lora_r"])) if published["lora_r"] else None)


def test_jobs_name_cards_models_and_library_sets_that_there_are(
    shipped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(published_dir())
    for row in shipped.rows:
        find_gpu(row.job.gpu)
        read_config(resolve_model(row.job.model, weights=row.job.weights))
        if row.environment:
            assert find_library_set(row.environment).versions["torch"]


def test_library_sets_have_the_versions_their_rows_state(shipped: Mapped) -> None:
    for row in shipped.rows:
        if not row.environment:
            continue
        stated = dict(
            part.strip().rsplit(" ", 1) for part in row.measurement.versions.split(";") if " " in part.strip()
        )
        is_older = any("torch 2.4.1 in place of 2.2.2" in note for note in row.differs)
        for name, version in find_library_set(row.environment).versions.items():
            if name == "torch" and is_older:
                continue
            assert stated.get(name, version) == version, (row.measurement.id, name)


def test_rows_of_one_run_share_one_job(shipped: Mapped) -> None:
    keys = {row.measurement.id: job_key(row.job) for row in shipped.rows}
    assert keys["fms-007"] == keys["fms-008"] == keys["fms-009"]
    assert keys["fms-007"] != keys["fms-010"]


# ---- files that are wrong ----


def a_mapping(path: Path, **changes: Any) -> Path:
    source: dict[str, Any] = {
        "title": "someone",
        "compare": {"max_memory_allocated": "peak_step.allocated_bytes"},
        "base": {"model": "llama-3.1-8b", "gpu": "rtx-4090"},
        "jobs": [{"rows": ["some-001"]}],
    }
    path.write_text(yaml.safe_dump({"sources": {"some": source | changes}}), encoding="utf-8")
    return path


MEASUREMENTS = {"some-001": a_measurement("some-001")}


def test_a_job_takes_its_source_s_base_and_what_it_says_itself(tmp_path: Path) -> None:
    jobs = [{"rows": ["some-001"], "job": {"method": {"kind": "full"}, "batch_size": 4}}]
    base = {"model": "llama-3.1-8b", "gpu": "rtx-4090", "method": {"kind": "lora", "rank": 8}}
    mapped = load_mapping(MEASUREMENTS, a_mapping(tmp_path / "m.yaml", jobs=jobs, base=base))
    (row,) = mapped.rows
    assert (row.job.method.kind, row.job.batch_size, row.job.gpu) == ("full", 4, "rtx-4090")


def test_a_metric_cannot_be_compared_with_a_figure_of_another_kind(tmp_path: Path) -> None:
    path = a_mapping(tmp_path / "m.yaml", compare={"max_memory_allocated": "peak.reserved_bytes"})
    with pytest.raises(
        ConfigError, match=r"some-001: 'max_memory_allocated' cannot be compared with 'peak.res"
    ):
        load_mapping(MEASUREMENTS, path)


def test_a_metric_the_source_compares_with_nothing_needs_a_refusal(tmp_path: Path) -> None:
    path = a_mapping(tmp_path / "m.yaml", compare={})
    with pytest.raises(ConfigError, match="compared with nothing"):
        load_mapping(MEASUREMENTS, path)


def test_a_row_that_is_left_out_is_missed(tmp_path: Path) -> None:
    measurements = MEASUREMENTS | {"some-002": a_measurement("some-002", grade=Grade.B)}
    with pytest.raises(ConfigError, match="1 rows are not there: some-002"):
        load_mapping(measurements, a_mapping(tmp_path / "m.yaml"))


def test_a_row_of_grade_c_may_be_left_out(tmp_path: Path) -> None:
    measurements = MEASUREMENTS | {"some-002": a_measurement("some-002", grade=Grade.C)}
    assert len(load_mapping(measurements, a_mapping(tmp_path / "m.yaml")).rows) == 1


def test_a_row_named_twice_is_refused(tmp_path: Path) -> None:
    refused = [{"rows": ["some-001"], "reason": "it cannot be"}]
    with pytest.raises(ConfigError, match="some-001 is named 2 times"):
        load_mapping(MEASUREMENTS, a_mapping(tmp_path / "m.yaml", refused=refused))


def test_a_misspelt_row_names_the_nearest(tmp_path: Path) -> None:
    path = a_mapping(tmp_path / "m.yaml", jobs=[{"rows": ["some-01"]}])
    with pytest.raises(ConfigError, match="there is no row some-01") as caught:
        load_mapping(MEASUREMENTS, path)
    assert "some-001" in caught.value.hint


def test_a_note_that_is_nowhere_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no note 'sdpa'"):
        load_mapping(MEASUREMENTS, a_mapping(tmp_path / "m.yaml", differs=["sdpa"]))


def test_a_wrong_job_names_its_row(tmp_path: Path) -> None:
    jobs = [{"rows": ["some-001"], "job": {"batch_sise": 4}}]
    with pytest.raises(ConfigError, match=r"some: some-001: batch_sise"):
        load_mapping(MEASUREMENTS, a_mapping(tmp_path / "m.yaml", jobs=jobs))
