from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.allocator.replay import replay
from profiler.allocator.settings import AllocatorSettings
from profiler.formula.derived import evaluate, program
from profiler.formula.derived.evaluate import DerivedFormula, End, Replayed
from profiler.formula.derived.file import Phase, Regime, Seen
from profiler.formula.derived.formula import TERMS, breakdown_of
from profiler.records.schema import PhaseName, PhasePlace
from profiler.units import KIB, MIB
from profiler.virtual.state import library_path
from tests.unit.formula.derived.files import PART, SIZES, Tape, a_file, a_run, quickly

WORKSPACE_BYTES = 8_519_680


@pytest.fixture(params=["compiled", "python"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays in the compiled library, where it is there, and in Python."""
    if request.param == "python":
        monkeypatch.setattr(evaluate, "can_replay", lambda *_: False)
    elif not library_path().is_file():
        pytest.skip("the library is not built")


def sizes_at(batch_size: int, seq_len: int) -> list[int]:
    """What the sizes of the hand-made file are, by hand."""
    tokens = batch_size * seq_len
    return [8 * MIB, 2048 * tokens, 4 * tokens + 100, WORKSPACE_BYTES]


def replayed(formula: DerivedFormula, *, batch_size: int = 2, seq_len: int = 500, **changes: Any) -> Replayed:
    values = {"workspace_bytes": WORKSPACE_BYTES, "num_steps": 2}
    return formula.replay(0, batch_size, seq_len, **(values | changes))


def rounded(size: int) -> int:
    return -(-size // 512) * 512


@pytest.mark.parametrize("settings", [None, AllocatorSettings(expandable_segments=True)])
@pytest.mark.parametrize(("batch_size", "seq_len"), [(1, 64), (2, 500), (7, 1111)])
def test_it_is_the_allocators_replay_of_the_same_events(
    batch_size: int, seq_len: int, settings: AllocatorSettings | None
) -> None:
    tape = a_run()
    ours = replayed(DerivedFormula(a_file(tape)), batch_size=batch_size, seq_len=seq_len, settings=settings)
    theirs = replay(tape.replay_events(sizes_at(batch_size, seq_len)), settings=settings)
    assert ours.allocated_bytes == theirs.allocated_peak_bytes
    assert ours.reserved_bytes == theirs.reserved_peak_bytes
    assert (ours.requested_bytes, ours.failed_in, ours.num_alloc_retries) == (None, None, 0)


@st.composite
def tapes(draw: st.DrawFn) -> Tape:
    """Any run: requests, frees of what lives, emptied caches, over some phases."""
    tape, live = Tape(), []
    for number in range(draw(st.integers(0, 60))):
        match draw(st.sampled_from(["ask", "ask", "free", "empty", "end"])):
            case "ask":
                tape.ask(str(number), draw(st.integers(0, 3)), draw(st.integers(0, 6)))
                live.append(str(number))
            case "free" if live:
                tape.free(live.pop(draw(st.integers(0, len(live) - 1))))
            case "empty":
                tape.empty()
            case "end":
                tape.end(PhaseName.LOAD)
            case _:
                pass
    tape.end(PhaseName.OPTIMIZER)
    return tape


@given(tapes(), st.integers(1, 5), st.integers(1, 3000), st.one_of(st.none(), st.integers(MIB, 200 * MIB)))
def test_any_run_is_replayed_as_the_allocator_would(
    tape: Tape, batch_size: int, seq_len: int, capacity_bytes: int | None
) -> None:
    formula = DerivedFormula(a_file(tape))
    ours = replayed(formula, batch_size=batch_size, seq_len=seq_len, capacity_bytes=capacity_bytes)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluate, "can_replay", lambda *_: False)
        again = replayed(formula, batch_size=batch_size, seq_len=seq_len, capacity_bytes=capacity_bytes)
    assert ours == again
    theirs = replay(tape.replay_events(sizes_at(batch_size, seq_len)), capacity_bytes=capacity_bytes)
    assert ours.allocated_bytes == theirs.allocated_peak_bytes
    assert ours.reserved_bytes == theirs.reserved_peak_bytes
    assert ours.num_alloc_retries == theirs.num_alloc_retries
    failed = theirs.out_of_memory
    assert ours.requested_bytes == (failed.requested_bytes if failed else None)
    for phase in ours.phases:
        assert sum(phase.terms.values()) == phase.allocated_bytes


@pytest.mark.usefixtures("_both_ways")
def test_each_phase_has_its_peak_and_whose_that_is() -> None:
    done = replayed(DerivedFormula(a_file()), batch_size=4, seq_len=4096)
    _, act, loss, _ = sizes_at(4, 4096)
    backward = next(phase for phase in done.phases if phase.place == (PhaseName.BACKWARD, 1, None))
    assert backward.terms == {
        "weights": 3 * 8 * MIB,
        "workspace": WORKSPACE_BYTES,
        "saved activations": 2 * rounded(act),
        "logits and loss": rounded(loss),
        "optimizer": 2 * 8 * MIB,
        "temporaries": rounded(act),
        "gradients": 8 * MIB,
    }
    assert backward.allocated_bytes == sum(backward.terms.values())
    peaks = {phase.place: phase.allocated_bytes for phase in done.phases}
    assert max(peaks.values()) == done.allocated_bytes
    assert peaks[PhasePlace(PhaseName.LOAD)] == 3 * 8 * MIB
    assert peaks[PhasePlace(PhaseName.OPTIMIZER)] == 4 * 8 * MIB


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
def test_a_run_has_the_steps_that_are_asked_for_the_last_one_again_and_again(num_steps: int) -> None:
    done = replayed(DerivedFormula(a_file()), num_steps=num_steps)
    written = replayed(DerivedFormula(a_file(a_run(num_steps))), num_steps=num_steps)
    assert done == written
    found = Counter(phase.place.step for phase in done.phases)
    assert found == Counter({None: 3} | dict.fromkeys(range(num_steps), 4))


@pytest.mark.usefixtures("_both_ways")
def test_where_memory_runs_out_the_phase_and_the_request_are_told() -> None:
    formula = DerivedFormula(a_file())
    failed = replayed(formula, seq_len=8192, capacity_bytes=80 * MIB)
    assert failed.failed_in == PhasePlace(PhaseName.FORWARD, 0)
    assert failed.requested_bytes == 2048 * 2 * 8192
    assert [str(phase.place.phase) for phase in failed.phases] == ["context", "load", "optimizer", "forward"]
    assert failed.reserved_bytes <= 80 * MIB
    later = replayed(formula, seq_len=500, capacity_bytes=72 * MIB)
    assert later.failed_in == PhasePlace(PhaseName.STEP, 0)
    assert later.requested_bytes == 8 * MIB


@pytest.mark.usefixtures("_both_ways")
def test_memory_that_runs_out_at_once_leaves_nothing() -> None:
    failed = replayed(DerivedFormula(a_file()), capacity_bytes=MIB)
    assert (failed.failed_in, failed.requested_bytes) == (PhasePlace(PhaseName.LOAD), 8 * MIB)
    assert (failed.allocated_bytes, failed.reserved_bytes) == (0, 0)


INEXACT = ("by tokens 100:1048576 200:3145728", *SIZES[1:])


@pytest.mark.parametrize(("end", "size_bytes"), [(End.LOW, MIB), (End.VALUE, 2 * MIB), (End.HIGH, 3 * MIB)])
def test_what_is_not_known_exactly_has_two_ends(end: End, size_bytes: int) -> None:
    formula = DerivedFormula(a_file(sizes=INEXACT))
    done = replayed(formula, batch_size=1, seq_len=150, end=end)
    assert done.phases[1].allocated_bytes == 3 * size_bytes
    assert not formula.is_exact(0, 1, 150)
    assert formula.is_exact(0, 1, 100)
    assert formula.is_exact(0, 1, 200)


def test_a_size_that_no_request_is_of_makes_nothing_inexact() -> None:
    formula = DerivedFormula(a_file(sizes=(*SIZES, "by tokens 100:1 200:2")))
    assert formula.is_exact(0, 1, 150)


def seen(*runs: tuple[int, int, int]) -> list[Seen]:
    return [Seen(batch_size=rows, seq_len=length, regime=regime) for rows, length, regime in runs]


ONE = seen((1, 64, 0), (1, 500, 0), (1, 501, 1), (1, 900, 1), (1, 1000, 0), (1, 2000, 0))
# With two rows another kernel from 1,000 tokens on; from lengths of 4,096 on another mask.
MORE = seen((2, 64, 0), (2, 499, 0), (2, 500, 1), (2, 4095, 1), (2, 4096, 0), (16, 63, 1), (16, 4095, 1))


@pytest.mark.parametrize(
    ("batch_size", "seq_len", "regimes", "is_sure"),
    [
        (1, 64, (0,), True),
        (1, 300, (0,), True),
        (1, 501, (1,), True),
        (1, 920, (1, 0), False),  # between two
        (1, 63, (0,), False),
        (1, 2001, (0,), False),
        (2, 100, (0,), True),
        (2, 500, (1,), True),
        (8, 500, (1,), True),
        (8, 100, (0, 1), False),  # nobody knows where between 2 and 16 rows it changes
        (16, 64, (1,), True),
        (16, 4096, (1,), False),  # beyond all that was seen
        (32, 500, (1,), False),
    ],
)
def test_a_regime_holds_between_a_smaller_and_a_larger_run_of_it(
    batch_size: int, seq_len: int, regimes: tuple[int, ...], is_sure: bool
) -> None:
    formula = DerivedFormula(a_file(seen=ONE + MORE, regimes=a_file().regimes * 2))
    found, is_found_sure = formula.regimes_at(batch_size, seq_len)
    assert (set(found), is_found_sure) == (set(regimes), is_sure)


def test_a_run_of_another_regime_between_two_makes_neither_sure() -> None:
    runs = seen((2, 64, 0), (4, 400, 1), (16, 4000, 0))
    formula = DerivedFormula(a_file(seen=runs, regimes=a_file().regimes * 2))
    assert not formula.regimes_at(3, 300)[1]
    assert not formula.regimes_at(8, 1000)[1]
    assert formula.regimes_at(4, 400) == ((1,), True)


def test_of_a_row_that_no_run_was_seen_of_there_is_no_regime() -> None:
    formula = DerivedFormula(a_file(seen=ONE))
    assert formula.regimes_at(2, 500) == ((), False)


def with_body(text: str) -> DerivedFormula:
    """A run whose forward pass is this text."""
    regime = Regime(
        phases=(
            Phase(name=PhaseName.LOAD, body=0),
            Phase(name=PhaseName.FORWARD, step=0, body=1),
            Phase(name=PhaseName.BACKWARD, step=0, body=0),
        )
    )
    return DerivedFormula(a_file(regimes=(regime,), bodies=("0.0", text)))


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-2", "frees what is not there"),  # of a request before the first
        ("-1 -1", "frees what is not there"),  # twice
        ("0.0 -1 -1", "frees what is not there"),
        ("2(0.0 -1 -1)", "frees what is not there"),
        ("-999999999", "frees what is not there"),
        ("4.0", "a size or an owner that is not there"),
        ("0.7", "a size or an owner that is not there"),
        ("0.0 999999.0", "a size or an owner that is not there"),
        ("-0", "no event"),
        ("999999(999999(e))", "more than"),
        ("2(e", "does not end"),
    ],
)
def test_a_run_that_cannot_be_is_refused(text: str, reason: str) -> None:
    with quickly(), pytest.raises(ValueError, match=reason):
        replayed(with_body(text))
    with quickly(), pytest.raises(ValueError, match=reason):
        replayed(with_body(text), capacity_bytes=1 << 40, num_steps=5)


def test_the_events_of_all_phases_are_those_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "MAX_EVENTS", 20)
    monkeypatch.setattr(evaluate, "MAX_EVENTS", 20)
    assert len(replayed(with_body("18(e)"), num_steps=1).phases) == 3
    with pytest.raises(ValueError, match="more than 20 events of one run"):
        replayed(with_body("19(e)"), num_steps=1)


def test_a_run_of_too_many_steps_is_not_written_out() -> None:
    with quickly(), pytest.raises(ValueError, match="1,000 steps are more than 67,108,864 events"):
        replayed(with_body("999999(e)"), num_steps=1000)


@pytest.mark.parametrize("size", ["1152921504606846976", "4611686018427387904"])
def test_sizes_that_the_library_cannot_count_are_counted_all_the_same(size: str) -> None:
    """Which a size of 18 digits comes to in the batch."""
    formula = DerivedFormula(a_file(sizes=(f"{int(size) // 2**20}*s", *SIZES[1:])))
    done = replayed(formula, batch_size=1, seq_len=2**20)
    assert done.phases[1].allocated_bytes == 3 * int(size)
    assert done.reserved_bytes >= 7 * int(size)


def test_a_size_beyond_any_card_is_a_request_like_others() -> None:
    formula = DerivedFormula(a_file(sizes=("9" * 18 + "*b*s*up(s,999999)*up(b*s,999999)", *SIZES[1:])))
    done = replayed(formula, seq_len=10**6)
    assert done.allocated_bytes > 10**37
    assert replayed(formula, capacity_bytes=1 << 40).failed_in == PhasePlace(PhaseName.LOAD)


def test_the_peaks_are_told_in_the_words_of_all_formulas() -> None:
    done = replayed(DerivedFormula(a_file()))
    breakdown = breakdown_of(done)
    assert breakdown.peak_bytes == done.allocated_bytes
    assert breakdown.peak.name == "backward, step 1"
    assert [instant.name.split(",")[0] for instant in breakdown.instants] == [
        *("load", "optimizer", "forward", "backward", "step", "zero grad"),
    ]
    assert {term for instant in breakdown.instants for term in instant.terms} <= set(TERMS)
    assert {part.replace(" ", "_") for part in PART} <= set(TERMS)
    assert breakdown.peak.terms["optimizer"] == 16 * MIB > KIB
