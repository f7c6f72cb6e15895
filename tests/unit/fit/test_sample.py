from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profiler.errors import ConfigError
from profiler.fit.sample import check_sample, describe_sample, read_sample, sample_of
from profiler.records.schema import Outcome, OutcomeStatus, Parameters
from profiler.records.store import RecordStore
from profiler.units import GIB
from tests.builders import a_job
from tests.unit.fit.made_up import MODELS, OUT_OF_MEMORY, a_measured_job, a_sample, jobs

if TYPE_CHECKING:
    from profiler.records.schema import Record

FACTORS = {"weights": 1.0}


def put(directory: Path, *records: Record) -> Path:
    store = RecordStore(directory)
    for record in records:
        store.put(record)
    return directory


def test_jobs_that_ran_out_of_memory_are_kept_apart() -> None:
    inferred = Outcome(status=OutcomeStatus.OOM, inferred_from="a smaller batch")
    failed = Outcome(status=OutcomeStatus.ERROR, message="no such model")
    outcomes = [Outcome(status=OutcomeStatus.OK), OUT_OF_MEMORY, inferred, failed]
    records = [
        a_measured_job(a_job(batch_size=number), allocated=GIB, outcome=outcome)
        for number, outcome in enumerate(outcomes, start=1)
    ]
    sample = sample_of(records, studies=[])
    assert [record.spec.batch_size for record in sample.records] == [1]
    assert [record.spec.batch_size for record in sample.out_of_memory] == [2]


def test_jobs_that_tried_again_do_not_tell_of_the_gap() -> None:
    usual = a_measured_job(a_job(), allocated=GIB)
    tight = a_measured_job(a_job(batch_size=2), allocated=GIB, num_alloc_retries=1)
    other = a_measured_job(a_job(alloc_conf="expandable_segments:True"), allocated=GIB)
    sample = sample_of([usual, tight, other], studies=[])
    assert len(sample.records) == 3  # all of them tell of allocated memory
    assert sample.is_free == (True, False, False)


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"allocated": 2 * GIB, "reserved": GIB}, "were allocated of 1073741824 reserved"),
        ({"allocated": GIB, "device": GIB - 1}, "the card had 1073741823 bytes in use, less than"),
    ],
)
def test_figures_that_contradict_each_other_are_left_out(figures: dict[str, Any], reason: str) -> None:
    sample = sample_of([a_measured_job(a_job(), **figures)], studies=[])
    assert sample.records == ()
    [skipped] = sample.skipped
    assert reason in skipped.reason
    assert skipped.name.startswith("llama-3.1-8b--qlora--rtx-4090--")


def test_a_peak_in_another_unit_is_noticed() -> None:
    record = a_measured_job(a_job(), allocated=15_000)  # MiB, say
    told = record.model_copy(update={"parameters": Parameters(total=8_030_261_248, trainable=1)})
    [skipped] = sample_of([told], studies=[]).skipped
    assert skipped.reason == "15000 bytes cannot hold 8030261248 parameters: is it another unit?"


def test_virtual_and_real_records_are_not_mixed_unless_asked() -> None:
    specs = jobs(methods=["full"])
    real = [a_measured_job(spec, allocated=GIB, kind="real") for spec in specs]
    virtual = [a_measured_job(spec, allocated=GIB) for spec in specs]
    sample = sample_of([*real, *virtual], studies=[])
    with pytest.raises(ConfigError, match="some records are of real cards and some of virtual ones"):
        check_sample(sample, is_mix_allowed=False)
    check_sample(sample, is_mix_allowed=True)
    assert describe_sample(sample).device_kinds == ("real", "virtual")


@pytest.mark.parametrize("models", [MODELS[:2], MODELS[:1]])
def test_too_few_models_are_refused(models: tuple[str, ...]) -> None:
    sample = a_sample(FACTORS, specs=jobs(models=models, methods=["full", "lora"]))
    with pytest.raises(ConfigError) as caught:
        check_sample(sample, is_mix_allowed=False)
    assert caught.value.message == (
        f"too few records: {8 * len(models)} of finished jobs, of {len(models)} models"
    )
    assert caught.value.hint == "a fit takes at least 12, of at least 3 models"


def test_a_study_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no record in"):
        read_sample([tmp_path])


def test_studies_are_read_together_and_a_record_counts_once(tmp_path: Path) -> None:
    records = a_sample(FACTORS).records
    one, two = put(tmp_path / "one", *records[:20]), put(tmp_path / "two", *records[10:])
    (one / "records" / "broken.json").write_text("{")
    sample = read_sample([one, two])
    assert len(sample.records) == len(records)
    assert sample.studies == ("one", "two")
    assert [Path(skipped.name).name for skipped in sample.skipped] == ["broken.json"]


def test_the_digest_hangs_on_the_records_not_on_their_order() -> None:
    records = a_sample(FACTORS).records
    digests = [
        describe_sample(sample_of(some, studies=[])).keys_sha256
        for some in (records, records[::-1], records[1:])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_file_says_what_was_fitted_on() -> None:
    on = describe_sample(a_sample(FACTORS))
    assert on.device_kinds == ("virtual",)
    assert on.cards == ("rtx-4090",)
    assert on.models == tuple(sorted(MODELS))
    assert on.num_records == 48
    assert on.versions == {"torch": ("2.14.1",), "transformers": (), "peft": (), "bitsandbytes": ()}
