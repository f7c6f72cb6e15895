from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from profiler.execute.queue import families, family_of, in_order
from profiler.jobs.identity import job_key
from profiler.records.build import build_record
from profiler.records.schema import Outcome, OutcomeStatus, Record
from tests.builders import AT, OK, a_job, a_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.jobs.job import JobSpec

OOM = Outcome(status=OutcomeStatus.OOM)


def a_record_of(job: JobSpec, outcome: Outcome = OK) -> Record:
    return build_record(spec=job, report=a_report(), outcome=outcome, created_at=AT)


def a_size(batch_size: int, seq_len: int, **changes: object) -> JobSpec:
    return a_job(batch_size=batch_size, seq_len=seq_len, **changes)


def runs_out_above(limit: int) -> Callable[[JobSpec], Outcome]:
    return lambda job: OOM if job.batch_size * job.seq_len > limit else OK


def run_all(
    jobs: list[JobSpec],
    outcome_of: Callable[[JobSpec], Outcome],
    pick: Callable[[int], int],
    num_workers: int,
) -> dict[str, Record]:
    """Runs jobs as a sweep does, `num_workers` at a time; `pick` chooses which of so many ends next."""
    found, todo = families(jobs), in_order(jobs)
    running: list[JobSpec] = []
    records: dict[str, Record] = {}
    while todo or running:
        for job in list(todo):
            family = found[family_of(job)]
            if not family.is_ready(job):
                continue
            if (inferred := family.infer(job)) is not None:
                todo.remove(job)
                family.finish(job, inferred)
                records[job_key(job)] = inferred
            elif len(running) < num_workers:
                todo.remove(job)
                running.append(job)
        if running:
            job = running.pop(pick(len(running)))
            records[job_key(job)] = a_record_of(job, outcome_of(job))
            found[family_of(job)].finish(job, records[job_key(job)])
    return records


def test_jobs_come_small_ones_first_and_equals_as_they_were() -> None:
    jobs = [a_size(2, 512), a_size(1, 512), a_size(1, 1024), a_size(4, 128)]
    assert in_order(jobs) == [jobs[1], jobs[3], jobs[0], jobs[2]]


def test_a_job_waits_for_every_smaller_one_and_for_no_other() -> None:
    jobs = [a_size(1, 512), a_size(2, 512), a_size(1, 1024), a_size(2, 1024), a_size(2, 512, steps=7)]
    found = families(jobs)
    family = found[family_of(jobs[0])]
    assert [found[family_of(job)].is_ready(job) for job in jobs] == [True, False, False, False, True]
    family.finish(jobs[0], a_record_of(jobs[0]))
    assert [family.is_ready(job) for job in jobs[1:4]] == [True, True, False]
    family.finish(jobs[1], None)  # refused: nobody need wait for it
    assert not family.is_ready(jobs[3])
    family.finish(jobs[2], a_record_of(jobs[2]))
    assert family.is_ready(jobs[3])


def test_what_is_inferred_names_the_job_that_ran_out_of_memory() -> None:
    ran, larger, largest = a_size(2, 512), a_size(2, 1024), a_size(8, 1024)
    family = families([ran, larger, largest])[family_of(ran)]
    family.finish(ran, a_record_of(ran, OOM))
    first = family.infer(larger)
    assert first is not None
    assert first.outcome.inferred_from == job_key(ran)
    assert first.outcome.message == "not run: the same job with batch 2 x 512 tokens ran out of memory"
    assert (first.key, first.phases, first.peak) == (job_key(larger), (), None)
    assert first.device == a_record_of(ran).device
    family.finish(larger, first)
    second = family.infer(largest)
    assert second is not None
    assert second.outcome.inferred_from == job_key(ran), "the job that ran, not one that was inferred"


def test_only_jobs_at_least_as_large_in_both_are_inferred() -> None:
    ran = a_size(2, 512)
    others = [a_size(1, 4096), a_size(64, 256), a_size(1, 512)]
    family = families([ran, *others])[family_of(ran)]
    family.finish(ran, a_record_of(ran, OOM))
    assert [family.infer(job) for job in others] == [None, None, None]


def test_a_job_that_failed_otherwise_says_nothing_about_larger_ones() -> None:
    ran, larger = a_size(1, 512), a_size(2, 512)
    family = families([ran, larger])[family_of(ran)]
    family.finish(ran, a_record_of(ran, Outcome(status=OutcomeStatus.TIMEOUT)))
    assert family.infer(larger) is None


def test_earlier_records_count_unless_their_job_is_run_again() -> None:
    ran, larger = a_size(1, 512), a_size(2, 512)
    seen = [a_record_of(ran, OOM)]
    assert families([larger], seen)[family_of(larger)].infer(larger) is not None
    assert families([ran, larger], seen)[family_of(larger)].infer(larger) is None


def test_real_cards_of_any_number_are_one_family() -> None:
    assert family_of(a_job(gpu="real")) == family_of(a_job(gpu="real:1")) != family_of(a_job())


sizes = st.tuples(st.sampled_from([1, 2, 3, 4, 8]), st.sampled_from([128, 256, 384, 512, 1024]))


@given(
    grid=st.lists(st.tuples(sizes, st.sampled_from([1, 2])), min_size=1, max_size=14, unique=True),
    limit=st.integers(0, 8192),
    num_workers=st.integers(1, 5),
    data=st.data(),
)
def test_what_is_inferred_is_the_same_whatever_order_workers_finish_in(
    grid: list[tuple[tuple[int, int], int]], limit: int, num_workers: int, data: st.DataObject
) -> None:
    jobs = [a_size(*size, steps=steps) for size, steps in grid]
    one_by_one = run_all(jobs, runs_out_above(limit), lambda _: 0, 1)
    at_once = run_all(
        jobs, runs_out_above(limit), lambda n: data.draw(st.integers(0, n - 1), label="ends"), num_workers
    )
    assert one_by_one.keys() == at_once.keys() == {job_key(job) for job in jobs}

    def told(records: dict[str, Record]) -> dict[str, bool]:
        return {key: record.outcome.inferred_from is not None for key, record in records.items()}

    assert told(one_by_one) == told(at_once)
    for job in jobs:
        assert at_once[job_key(job)].outcome.status is runs_out_above(limit)(job).status
