from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from profiler.cli.app import run_command
from profiler.errors import ConfigError
from profiler.estimate.apply import Band
from profiler.estimate.best import best_estimate, best_estimates
from profiler.estimate.card import Card
from profiler.estimate.derived import estimate_derived
from profiler.estimate.estimate import Estimate, Fits, Refusal
from profiler.estimate.factors import default_factors
from profiler.estimate.frame import estimate_frame
from profiler.formula.catalogue import find_formula
from profiler.formula.configs import config_of
from profiler.formula.derived import shelf
from profiler.formula.derived.file import CheckedRun, Regime, Seen, pack_derived
from profiler.formula.derived.identity import derived_key
from profiler.formula.derived.shelf import cache_dir, file_name
from profiler.formula.own.parts import WORKSPACE_BYTES
from profiler.jobs.job import Full
from profiler.jobs.keys import flatten
from profiler.process.environment import library_versions
from profiler.units import GIB, MIB, TIB
from tests.builders import a_job
from tests.unit.formula.derived.files import SIZES, a_file, pack_text

JOB = a_job(method="lora", batch_size=2, seq_len=8192, steps=2)


def seen(*runs: tuple[int, int, int]) -> tuple[Seen, ...]:
    return tuple(Seen(batch_size=rows, seq_len=length, regime=regime) for rows, length, regime in runs)


SEVERAL_ROWS = seen((2, 64, 0), (16, 50_000, 0))
CHANGES: list[dict[str, Any]] = [{}, {"batch_size": 1}, {"seq_len": 4096}, {"method": Full()}]
ALLOCATED_BYTES = 159_580_672
RESERVED_BYTES = 190 * MIB


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shelf, "configs_dir", lambda: tmp_path / "configs")


def put(**changes: Any) -> Path:
    """Keeps a hand-made formula for the job."""
    config = config_of(JOB.model)
    assert config is not None
    values = {"key": derived_key(JOB, config), "versions": library_versions(), "seen": SEVERAL_ROWS}
    file = a_file(**(values | changes))
    path = cache_dir() / file_name(file, JOB.method.kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack_derived(file))
    return path


def a_card(room_bytes: int, *, context_bytes: int | None = GIB) -> Card:
    """A card with so much room for tensors."""
    return Card(
        id="rtx-4090",
        name="Card",
        total_bytes=room_bytes + (context_bytes or 0),
        context_bytes=context_bytes,
        reason="asked for",
    )


def estimated(room_bytes: int = TIB, **changes: Any) -> Estimate:
    card = a_card(room_bytes, **changes)
    found = estimate_derived(JOB, card=card)
    assert isinstance(found, Estimate)
    return found


def exactly(size_bytes: int) -> Band:
    return Band(value_bytes=size_bytes, low_bytes=size_bytes, high_bytes=size_bytes)


def test_what_is_known_exactly_has_no_interval() -> None:
    put()
    found = estimated()
    assert found.corrected.allocated == exactly(ALLOCATED_BYTES)
    assert found.corrected.reserved == exactly(RESERVED_BYTES)
    assert found.corrected.device_used == exactly(RESERVED_BYTES + GIB)
    assert found.breakdown.peak_bytes == ALLOCATED_BYTES
    assert found.notes == ()


@pytest.mark.parametrize(
    ("room_bytes", "fits", "left_bytes", "reason"),
    [
        (200 * MIB, Fits.YES, 10 * MIB, "as the allocator's replay has it"),
        (RESERVED_BYTES, Fits.YES, 0, "as the allocator's replay has it"),
        (188 * MIB, Fits.YES, 18 * MIB, "the allocator gives back what it keeps 1 times, which takes time"),
        (
            *(168 * MIB, Fits.NO, -22 * MIB),
            "memory runs out in the backward phase of step 1, at a request of 32.00 MiB",
        ),
        (MIB, Fits.NO, -189 * MIB, "memory runs out in the load phase, at a request of 8.00 MiB"),
    ],
)
def test_a_verdict_is_what_the_allocator_would_do_on_the_card(
    room_bytes: int, fits: Fits, left_bytes: int, reason: str
) -> None:
    put()
    verdict = estimated(room_bytes).verdict
    assert (verdict.fits, verdict.room_bytes, verdict.reason) == (fits, left_bytes, reason)


@pytest.mark.parametrize(("room_bytes", "fits"), [(TIB, Fits.LIKELY), (MIB, Fits.UNLIKELY)])
def test_on_a_card_whose_context_is_not_known_no_verdict_is_sure(room_bytes: int, fits: Fits) -> None:
    put()
    found = estimated(room_bytes, context_bytes=None)
    assert found.verdict.fits is fits
    assert found.corrected.device_used is None


def test_settings_of_the_allocator_are_replayed() -> None:
    put()
    spec = JOB.model_copy(update={"alloc_conf": "expandable_segments:True"})
    found = estimate_derived(spec, card=a_card(TIB))
    assert isinstance(found, Estimate)
    assert found.corrected.allocated == exactly(ALLOCATED_BYTES)
    assert found.corrected.reserved is not None
    reserved_bytes = found.corrected.reserved.value_bytes
    assert isinstance(reserved_bytes, int)
    assert ALLOCATED_BYTES <= reserved_bytes < RESERVED_BYTES


def test_a_size_that_lies_between_two_gives_an_interval_and_says_so() -> None:
    put(sizes=(f"by tokens 16000:{8 * MIB} 17000:{16 * MIB}", *SIZES[1:]))
    found = estimated()
    allocated, reserved = found.corrected.allocated, found.corrected.reserved
    assert reserved is not None
    for band in (allocated, reserved):
        low, value, high = band.low_bytes, band.value_bytes, band.high_bytes
        assert isinstance(low, int)
        assert isinstance(value, int)
        assert isinstance(high, int)
        assert low < value < high
    assert allocated.low_bytes == ALLOCATED_BYTES
    assert found.notes == (
        "no run was seen to do just this: the figures lie between those of its neighbours",
    )
    assert found.verdict.fits is Fits.LIKELY
    assert estimated(MIB).verdict.fits is Fits.UNLIKELY


def test_checks_that_missed_widen_the_interval_and_are_told() -> None:
    checks = [a_check(), a_check(allocated_difference_bytes=-MIB), a_check(reserved_difference_bytes=2 * MIB)]
    put(checks=checks)
    found = estimated()
    assert found.notes == (
        "2 of 3 runs that checked the formula took other bytes: "
        "up to 1.00 MiB allocated and 2.00 MiB reserved",
    )
    allocated = found.corrected.allocated
    off_bytes = -(-2 * ALLOCATED_BYTES // 100)  # a hundredth, and as much again
    assert allocated == Band(
        value_bytes=ALLOCATED_BYTES,
        low_bytes=ALLOCATED_BYTES - off_bytes,
        high_bytes=ALLOCATED_BYTES + off_bytes,
    )
    assert found.verdict.fits is Fits.LIKELY


def test_checks_that_agreed_leave_it_exact() -> None:
    put(checks=[a_check()])
    assert estimated().notes == ()


def a_check(**changes: int) -> CheckedRun:
    values = {"batch_size": 2, "seq_len": 300, "allocated_bytes": 100 * MIB, "reserved_bytes": 200 * MIB}
    off = {"allocated_difference_bytes": 0, "reserved_difference_bytes": 0}
    return CheckedRun(**(values | off | changes))


def test_between_two_regimes_the_figures_are_those_of_both() -> None:
    one = a_file().regimes[0]
    other = Regime(phases=tuple(phase for phase in one.phases if phase.step != 1))
    put(regimes=(one, other), seen=seen((2, 64, 0), (2, 8000, 0), (2, 8500, 1), (16, 8500, 1)))
    found = estimated()
    assert found.corrected.allocated == Band(
        value_bytes=ALLOCATED_BYTES,
        low_bytes=ALLOCATED_BYTES,
        high_bytes=ALLOCATED_BYTES + WORKSPACE_BYTES,  # a second one: the first step comes again
    )
    assert found.verdict.fits is Fits.LIKELY
    assert len(found.notes) == 1


def test_other_versions_are_told() -> None:
    put(versions={**library_versions(), "peft": "0.1"})
    found = estimated()
    (note,) = found.notes
    assert note.startswith("derived with peft 0.1 (here ")
    assert found.verdict.fits is Fits.LIKELY


def refusal(**changes: Any) -> str:
    found = estimate_derived(JOB.model_copy(update=changes), card=a_card(TIB))
    assert isinstance(found, Refusal)
    return found.reason


def test_where_none_was_derived_it_says_how_one_is() -> None:
    assert refusal() == "none was derived for it yet: `peakvram derive` does"


def test_inference_is_refused() -> None:
    found = estimate_derived(a_job(method="inference"), card=a_card(TIB))
    assert isinstance(found, Refusal)
    assert found.reason == "formulas are derived for jobs that train"


ENDED_WELL = "no run of {} ended well when its formula was derived; `peakvram run` runs the job"


def test_a_batch_of_a_row_that_no_run_was_seen_of_is_refused() -> None:
    put()
    assert refusal(batch_size=1) == ENDED_WELL.format("one row")
    put(seen=seen((1, 64, 0), (1, 9000, 0)))
    assert refusal() == ENDED_WELL.format("several rows")


def with_forward(text: str) -> dict[str, Any]:
    """What changes where another body is in the place of the first one that is not empty."""
    bodies = list(a_file().bodies)
    bodies[1] = text
    return {"bodies": bodies}


NOT_THERE = "a request is of a size or an owner that is not there"
DAMAGED = {
    "a free of what is not there": (with_forward("-1"), "it frees what is not there"),
    "a double free": (with_forward("0.0 -1 -1"), "it frees what is not there"),
    "a size that is not there": (with_forward("9.0"), NOT_THERE),
    "an owner that is not there": (with_forward("0.9"), NOT_THERE),
    "no event": (with_forward("-0"), "no event: '-0'"),
    "too much": (with_forward("999999(999999(e))"), "more than 4,000,000 events"),
}


@pytest.mark.parametrize(("changes", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_seen_to_be_damaged_as_it_is_replayed_is_refused_and_ours_is_asked(
    changes: dict[str, Any], reason: str
) -> None:
    put(**changes)
    told = f"its derived formula is damaged: {reason}; `peakvram derive` makes it anew"
    assert refusal() == told
    found = best_estimate(JOB, factors=None, card=a_card(TIB))
    assert isinstance(found, Estimate)
    assert (found.formula.id, found.notes) == ("peakvram", (told,))


@pytest.mark.parametrize("version", ["x", "", "2", "9" * 5000, "2.x.y", "\x1b[31m"])
def test_a_version_that_is_none_does_no_harm(version: str) -> None:
    put(versions={"torch": version})
    assert isinstance(estimate_derived(JOB, card=a_card(TIB)), Estimate | Refusal)


def test_the_derived_formula_is_the_best_and_ours_where_there_is_none() -> None:
    ours = best_estimate(JOB, factors=None, card=a_card(TIB))
    assert isinstance(ours, Estimate)
    assert (ours.formula.id, ours.notes) == ("peakvram", ())
    put()
    best = best_estimate(JOB, factors=None, card=a_card(TIB))
    assert isinstance(best, Estimate)
    assert best.formula.id == "derived"


def test_a_table_of_jobs_asks_the_derived_formula_of_each_that_has_one() -> None:
    put()
    specs = [JOB.model_copy(update={"gpu": "rtx-4090", **changes}) for changes in CHANGES]
    frame = pd.DataFrame([flatten(spec.model_dump(mode="json")) for spec in specs])
    estimates = estimate_frame(frame, formula=None, factors=default_factors())
    assert estimates["estimate.formula"].tolist() == ["derived", "peakvram", "derived", "peakvram"]
    assert estimates["estimate.allocated_bytes"][0] == ALLOCATED_BYTES
    each = [one for one in best_estimates(specs, factors=default_factors()) if isinstance(one, Estimate)]
    for name in ("allocated", "reserved", "device_used"):
        values = [getattr(one.corrected, name).value_bytes for one in each]
        assert estimates[f"estimate.{name}_bytes"].tolist() == values
    assert estimates["estimate.fits"].tolist() == [str(one.verdict.fits) for one in each]
    ours = estimate_frame(frame, formula=find_formula("peakvram"), factors=default_factors())
    assert set(ours["estimate.formula"]) == {"peakvram"}


def test_a_plan_says_how_many_jobs_derived_formulas_speak_of(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    monkeypatch.chdir(tmp_path)
    job = JOB.model_copy(update={"gpu": "rtx-4090"}).model_dump(mode="json", exclude={"seq_len"})
    sweep = {"name": "s", "base": job, "axes": {"seq_len": [4096, 8192]}}
    Path("sweep.yaml").write_text(json.dumps(sweep))  # JSON is YAML
    assert run_command(["plan", "sweep.yaml"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 of them by derived formulas" in told
    assert f"{ALLOCATED_BYTES:,} B" in told


def test_a_file_that_cannot_be_read_is_told_with_our_estimate() -> None:
    path = pack_text(put(), "[]")
    told = f"{path} is no derived formula: the file: input should be an object"
    found = best_estimate(JOB, factors=None, card=a_card(TIB))
    assert isinstance(found, Estimate)
    assert found.formula.id == "peakvram"
    assert found.notes == (f"{told}; the estimate goes on without it",)
    assert refusal().startswith(told)


def test_a_job_that_cannot_run_is_refused_whatever_was_derived() -> None:
    put()
    with pytest.raises(ConfigError):
        estimate_derived(a_job(method={"kind": "lora", "targets": "no_such_module"}), card=a_card(TIB))


FLAGS = ["llama-3.1-8b", "--method", "lora", "--batch-size", "2", "--seq-len", "8192", "--gpu", "rtx-4090"]


def test_a_damaged_file_is_one_clear_line_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    put(**with_forward("0.0 -1 -1"))
    assert run_command(["estimate", *FLAGS]) == 0
    assert "its derived formula is damaged: it frees what is not there" in capsys.readouterr().out
    assert run_command(["estimate", *FLAGS, "--formula", "derived"]) == 2
    told = capsys.readouterr().err
    assert "formula derived does not speak of this job: its derived formula is damaged" in told
    assert "Traceback" not in told
    assert run_command(["estimate", *FLAGS, "--all-formulas"]) == 0
