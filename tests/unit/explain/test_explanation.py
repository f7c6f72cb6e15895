from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.explain.explanation import ENGINE, Explanation, explain_trace, line_of
from profiler.explain.owners import Part, find_owners, place_of
from profiler.explain.traced_run import find_moment, follow_trace
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName
from profiler.records.trace import Mark, Trace, Work
from tests.builders import a_record
from tests.unit.explain.traces import KIB, LIBRARY, OK, TraceMaker, a_mark, a_trained_trace

if TYPE_CHECKING:
    from profiler.records.schema import Record

OOM = Outcome(status=OutcomeStatus.OOM, phase=PhaseName.FORWARD, step=0, requested_bytes=7 * KIB)


def explained(trace: Trace, record: Record | None = None) -> Explanation:
    found = explain_trace(trace, record or a_record())
    assert found is not None
    return found[0]


def tree(explanation: Explanation) -> dict[tuple[str, str], int]:
    return {
        (component.name, group.name): group.size_bytes
        for component in explanation.components
        for group in component.groups
    }


def test_every_block_at_the_peak_has_its_component_and_its_part() -> None:
    found = explained(a_trained_trace())
    assert tree(found) == {
        ("weights", "layers.*.mlp.weight"): 4 * KIB,
        ("saved activations", "layers.*.mlp"): KIB,
        ("saved activations", "layers.*.mlp (recomputed)"): KIB,
        ("logits and loss", "backward pass"): KIB,
        ("gradients", "layers.*.mlp.weight"): 2 * KIB,
        ("temporaries", "backward pass, layers.*"): 512,
    }


def test_the_instant_says_where_the_peak_is() -> None:
    instant = explained(a_trained_trace()).instant
    assert instant.allocated_bytes == 9 * KIB + 512
    assert (instant.phase, instant.step, instant.module) == (PhaseName.BACKWARD, 0, "layers.0")
    assert (instant.is_failure, instant.requested_bytes) == (False, None)
    assert instant.line == ENGINE


def test_what_dies_within_its_forward_pass_is_temporary_there_and_in_a_recomputation() -> None:
    run = follow_trace(a_trained_trace())
    owners = find_owners(run)
    assert (owners[2].part, owners[2].name) == (Part.TEMPORARIES, "layers.*.mlp")
    assert (owners[6].part, owners[6].name) == (Part.TEMPORARIES, "layers.*.mlp (recomputed)")
    assert (owners[3].part, owners[3].name) == (Part.LOGITS, "forward pass")


def test_a_mark_that_is_left_of_the_step_before_is_not_believed() -> None:
    made = TraceMaker()
    made.alloc(KIB, a_mark(Work.BACKWARD, "model.layers.0", step=0), stack=1)
    made.end(PhaseName.BACKWARD, 1)
    found = explained(made.trace())
    assert tree(found) == {("logits and loss", "backward pass"): KIB}
    assert found.instant.module == "output layer and loss"


@pytest.mark.parametrize(
    ("phase", "is_kept", "owner"),
    [
        (PhaseName.LOAD, True, ("other", "loading")),
        (PhaseName.LOAD, False, ("temporaries", "loading")),
        (PhaseName.STEP, False, ("temporaries", "optimizer step")),
        (PhaseName.CLIP, True, ("temporaries", "gradient clipping")),
    ],
)
def test_what_nobody_owns_is_named_after_its_phase(
    phase: PhaseName, is_kept: bool, owner: tuple[str, str]
) -> None:
    made = TraceMaker()
    number = made.alloc(KIB, stack=2)
    if not is_kept:
        made.free(number)
    made.end(phase, 0)
    assert tree(explained(made.trace())) == {owner: KIB}


def test_a_cache_that_grew_since_is_still_a_cache() -> None:
    made = TraceMaker()
    old = made.alloc(KIB, a_mark(), stack=3)
    new = made.alloc(2 * KIB, a_mark(), stack=3)
    made.free(old)
    made.own(new, "kv_cache")
    made.end(PhaseName.DECODE)
    assert tree(explained(made.trace())) == {("KV cache", "KV cache"): 3 * KIB}


def test_where_memory_ran_out_that_moment_is_explained() -> None:
    made = TraceMaker()
    made.free(made.alloc(8 * KIB))
    weight = made.alloc(4 * KIB)
    made.own(weight, "weights", "lm_head.weight")
    made.end(PhaseName.LOAD)
    made.alloc(KIB, a_mark())
    made.fail(7 * KIB, a_mark(module="model.layers.3.mlp"))
    made.end(PhaseName.FORWARD, 0)
    found = explained(made.trace(), a_record(outcome=OOM))
    assert found.instant.is_failure
    assert (found.instant.allocated_bytes, found.instant.requested_bytes) == (5 * KIB, 7 * KIB)
    assert (found.instant.module, found.instant.line) == ("layers.3.mlp", LIBRARY)
    assert tree(found) == {("weights", "lm_head.weight"): 4 * KIB, ("saved activations", "layers.*.mlp"): KIB}
    assert any("memory runs out" in note for note in found.notes)


def test_memory_that_ran_out_beside_the_allocator_is_explained_at_the_end_of_the_trace() -> None:
    made = TraceMaker()
    made.alloc(KIB)
    made.end(PhaseName.LOAD)
    outcome = Outcome(status=OutcomeStatus.OOM, phase=PhaseName.LOAD)
    moment = find_moment(follow_trace(made.trace()), outcome)
    assert moment is not None
    assert (moment.event, moment.allocated_bytes, moment.requested_bytes) == (0, KIB, 0)


def test_a_run_that_allocated_nothing_has_no_explanation() -> None:
    made = TraceMaker()
    made.end(PhaseName.CONTEXT)
    assert explain_trace(made.trace(), a_record()) is None


def test_a_history_that_was_full_is_told() -> None:
    made = TraceMaker()
    made.alloc(KIB)
    made.end(PhaseName.LOAD)
    made.end(PhaseName.FORWARD, 0, is_truncated=True)
    assert any("history was full" in note for note in explained(made.trace()).notes)


def test_a_peak_that_is_not_the_allocators_own_is_told() -> None:
    found = explained(a_trained_trace(), a_record())
    assert any("the allocator's own peak is" in note for note in found.notes)


def test_the_line_is_the_librarys_that_called_torch() -> None:
    assert line_of(("torch/a.py:1 f", LIBRARY, "peft/b.py:2 g")) == LIBRARY
    assert line_of(("torch/a.py:1 f", "profiler/workload/job.py:3 h")) == "torch/a.py:1 f"
    assert line_of(()) == ENGINE


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (
            "base_model.model.model.layers.31.mlp.up_proj.lora_A.default.weight",
            "layers.*.mlp.up_proj.lora_A.weight",
        ),
        ("base_model.model.lm_head", "lm_head"),
        ("model.layers.0", "layers.*"),
        ("", ""),
    ],
)
def test_a_path_is_told_for_all_layers_alike(path: str, place: str) -> None:
    assert place_of(path) == place


_WORKS = st.sampled_from([Work.FORWARD, Work.HEAD, Work.BACKWARD, Work.NONE])
_PHASES = st.sampled_from([PhaseName.LOAD, PhaseName.FORWARD, PhaseName.BACKWARD, PhaseName.STEP])
_STEPS = st.lists(st.tuples(st.integers(1, 9), _WORKS, st.booleans(), st.booleans()), min_size=1)


@given(st.lists(st.tuples(_PHASES, _STEPS), min_size=1, max_size=5))
def test_the_components_add_up_to_the_peak_whatever_happens(
    phases: list[tuple[PhaseName, list[tuple[int, Work, bool, bool]]]],
) -> None:
    made, live, total, peak = TraceMaker(), list[tuple[int, int]](), 0, 0
    for phase, events in phases:
        for size, work, frees, is_owned in events:
            if frees and live:
                number, freed = live.pop(0)
                made.free(number)
                total -= freed
                continue
            number = made.alloc(size * 512, Mark(work, "model.layers.1", 0))
            live.append((number, size * 512))
            if is_owned:
                made.own(number, "weights", "a.weight")
            total += size * 512
            peak = max(peak, total)
        made.end(phase, 0)
    found = explained(made.trace())
    assert found.instant.allocated_bytes == peak
    assert sum(component.size_bytes for component in found.components) == peak
    assert sum(tree(found).values()) == peak


def test_the_true_size_of_a_block_is_believed() -> None:
    made = TraceMaker()
    number = made.alloc(KIB)
    made.own(number, "weights", "a.weight", size_bytes=2 * KIB)
    made.end(PhaseName.LOAD)
    assert find_moment(follow_trace(made.trace()), OK).allocated_bytes == 2 * KIB  # type: ignore[union-attr]
