"""A real card beside its virtual twin; a virtual machine plays the real card, as in `test_real_path`."""

from __future__ import annotations

import gzip
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
import yaml

from profiler.hardware.catalogue import find_gpu
from profiler.records.history import History, read_history
from profiler.records.schema import OutcomeStatus, PhaseName, PhasePlace
from profiler.records.store import RecordStore
from profiler.units import GIB, MIB
from profiler.verify.folder import TwinComparison
from profiler.verify.parting import Likeness
from profiler.virtual.state import STATE_VARIABLE
from tests.virtual.harness import WarmMachines, a_machine
from tests.virtual.jobs import ForkedWorker, _attach, a_model

if TYPE_CHECKING:
    from collections.abc import Callable

A100 = find_gpu("a100-80gb")
PLANTED_BYTES = 12_345


@dataclass(frozen=True)
class Verified:
    """What `peakvram verify` left."""

    exit_code: int
    directory: Path

    @property
    def comparison(self) -> TwinComparison:
        return TwinComparison.model_validate_json((self.directory / "differences.json").read_text())

    def histories(self, side: str) -> list[History]:
        return [read_history(path) for path in sorted((self.directory / side / "histories").iterdir())]

    def texts(self) -> list[str]:
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        return [
            gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
            for path in files
        ]


class Workshop:
    """Makes machines with a card, and holds the card to its twin."""

    def __init__(self, virtual_gpu: WarmMachines, directory: Path) -> None:
        self._virtual_gpu = virtual_gpu
        self._directory = directory
        self._model = a_model(directory / "model")
        self._num_runs = 0

    def verify(
        self, *jobs: dict[str, object], plant: str = "", flags: tuple[str, ...] = (), **card: Any
    ) -> Verified:
        self._num_runs += 1
        place = self._directory / f"run-{self._num_runs}"
        machine = a_machine(place / "machine", "a100-80gb", **card)
        base = {"model": self._model, "method": "lora", "seq_len": 256, "batch_size": 2, "steps": 2}
        sweep = {"name": "jobs", "base": base, "include": list(jobs) or [{}]}
        (place / "jobs.yaml").write_text(yaml.safe_dump(sweep))
        arguments = ["verify", str(place / "jobs.yaml"), "--out", str(place / "out"), *flags]
        # A machine without a card, as for `run_forked`: the child's own must not be asked for it.
        code = self._virtual_gpu("a100-80gb", _command, arguments, str(machine.directory), plant, count=0)
        return Verified(exit_code=code, directory=place / "out")


def _command(arguments: list[str], machine: str, plant: str) -> int:
    """In the child: the command, on a machine whose card it takes for a real one."""
    from profiler.cli.app import run_command
    from profiler.execute import local

    os.environ[STATE_VARIABLE] = str(Path(machine, "state"))
    _attach(os.environ)
    parts = SimpleNamespace(Popen=ForkedWorker, DEVNULL=subprocess.DEVNULL)
    embed = _plant(torch.nn.Embedding.forward, is_held=plant == "held")
    with (
        mock.patch.object(local, "subprocess", parts),
        mock.patch.object(torch.nn.Embedding, "forward", embed if plant else torch.nn.Embedding.forward),
    ):
        return run_command(arguments)


HELD: list[torch.Tensor] = []


def _plant(forward: Callable[..., Any], *, is_held: bool) -> Callable[..., Any]:
    """An embedding that takes one block more, on the real card only."""

    def embed(self: torch.nn.Embedding, ids: torch.Tensor) -> Any:
        if os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("GPU-"):
            more = torch.empty(PLANTED_BYTES, dtype=torch.uint8, device="cuda")
            if is_held:
                HELD.append(more)
            del more
        return forward(self, ids)

    return embed


@pytest.fixture(scope="module")
def workshop(virtual_gpu: WarmMachines, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(virtual_gpu, tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def same(workshop: Workshop) -> Verified:
    """Two jobs on a card that does what its twin does."""
    return workshop.verify({}, {"method": "qlora", "alloc_conf": "expandable_segments:True"})


def test_a_card_that_does_the_same_is_found_identical(same: Verified) -> None:
    assert same.exit_code == 0
    comparison = same.comparison
    assert [job.verdict for job in comparison.jobs] == [Likeness.IDENTICAL] * 2
    for job in comparison.jobs:
        assert job.real_peak is not None
        assert job.virtual_peak is not None
        assert job.real_peak.reserved_bytes == job.virtual_peak.reserved_bytes
        assert job.num_events_real == job.num_events_virtual
        assert (job.num_events_real or 0) > 1000
    assert comparison.catalogue_id == "a100-80gb"
    assert comparison.catalogue_figures == ()
    assert comparison.jobs[1].notes == (
        "expandable segments: the allocator maps memory in place of allocating segments",
    )


def test_real_and_virtual_records_are_never_mixed(same: Verified) -> None:
    for side in ("real", "virtual"):
        records = [stored.record for stored in RecordStore(same.directory / side).scan().records]
        assert [record.device.kind for record in records if record.device] == [side] * 2
        assert len(same.histories(side)) == 2


def test_the_folder_tells_nothing_of_the_machine(same: Verified) -> None:
    texts = same.texts()
    assert len(texts) == 2 + 2 * 4  # README.md and differences.json, then records and histories of both sides
    for text in texts:
        for word in (str(same.directory.parent.parent), "/site-packages/", os.uname().nodename, "GPU-"):
            assert word not in text


def test_the_host_is_named_only_where_that_is_asked_for(workshop: Workshop) -> None:
    verified = workshop.verify({"steps": 1}, flags=("--with-hostname",))
    (stored,) = RecordStore(verified.directory / "real").scan().records
    assert stored.record.environment is not None
    assert stored.record.environment.hostname == os.uname().nodename


def test_one_block_more_is_found_at_its_event_with_its_line(workshop: Workshop) -> None:
    verified = workshop.verify(plant="let go")
    (job,) = verified.comparison.jobs
    assert job.verdict is Likeness.SAME_FIGURES
    assert verified.exit_code == 0
    first = job.first_difference
    assert first is not None
    assert (first.phase, first.step) == (PhaseName.FORWARD, 0)
    assert first.real is not None
    assert (first.real.kind, first.real.size_bytes) == ("alloc", PLANTED_BYTES)
    assert first.real.stack[0].startswith("tests/virtual/test_verify.py:")
    assert first.real.stack[0].endswith(" embed")
    assert first.virtual is not None
    assert first.virtual.stack[0].startswith("torch/nn/functional.py:")
    (real,), (virtual,) = verified.histories("real"), verified.histories("virtual")
    events = [
        [event[:3] for phase in history.phases for event in phase.events] for history in (real, virtual)
    ]
    assert events[0][: first.index] == events[1][: first.index]
    assert events[0][first.index][1] == PLANTED_BYTES
    assert [event.index for event in first.before] == list(range(first.index - 3, first.index))
    assert first.index_in_phase == 3  # the batch's three tensors come before the embedding
    # One in each of two steps, let go at once: nothing but these differs.
    assert job.num_events_real == (job.num_events_virtual or 0) + 4
    assert {(phase.phase, phase.step) for phase in job.unlike_phases} == {
        (PhaseName.FORWARD, 0),
        (PhaseName.FORWARD, 1),
    }


def test_a_block_that_stays_is_told_in_bytes_phase_by_phase(workshop: Workshop) -> None:
    verified = workshop.verify(plant="held")
    (job,) = verified.comparison.jobs
    assert (verified.exit_code, job.verdict) == (1, Likeness.DIFFERS)
    ends = {
        (figure.phase, figure.step): (figure.real or 0) - (figure.virtual or 0)
        for figure in job.figures
        if figure.figure == "allocated_end_bytes"
    }
    rounded = 12_800  # to 512
    assert ends[PhaseName.FORWARD, 0] == ends[PhaseName.ZERO_GRAD, 0] == rounded
    assert ends[PhaseName.FORWARD, 1] == ends[PhaseName.ZERO_GRAD, 1] == 2 * rounded
    assert "allocated end" in (verified.directory / "README.md").read_text()


def test_a_job_out_of_memory_on_both_is_compared_up_to_there(workshop: Workshop) -> None:
    total_bytes = 2 * GIB
    verified = workshop.verify(
        {"method": "full", "batch_size": 64, "seq_len": 2048},
        total_bytes=total_bytes,
        nvml_total_bytes=total_bytes,
        context_bytes=100 * MIB,
    )
    comparison = verified.comparison
    (job,) = comparison.jobs
    assert job.real_outcome is not None
    assert job.real_outcome.status is OutcomeStatus.OOM
    assert job.verdict is Likeness.IDENTICAL
    # The card is in no catalogue: 80 GiB is what its name promises there.
    assert comparison.catalogue_id is None
    assert comparison.twin.id == "twin-of-nvidia-a100-sxm4-80gb"
    assert comparison.twin.total_bytes == total_bytes
    assert "no card of the catalogue has the name, memory" in comparison.twin.reason


def test_a_twin_has_the_multiprocessors_and_context_of_the_card(workshop: Workshop) -> None:
    verified = workshop.verify({"steps": 1}, num_sms=96, context_bytes=500 * MIB)
    twin = verified.comparison.twin
    assert (twin.num_sms, twin.context_bytes) == (96, 500 * MIB)
    slightly_other = workshop.verify({"steps": 1}, context_bytes=500 * MIB).comparison
    assert slightly_other.catalogue_id == "a100-80gb"
    assert [(found.figure, found.catalogue, found.card) for found in slightly_other.catalogue_figures] == [
        ("context_bytes", A100.context_bytes, 500 * MIB)
    ]


def test_a_card_that_others_use_is_refused_and_nothing_is_written(workshop: Workshop) -> None:
    verified = workshop.verify(other_bytes=GIB)
    assert verified.exit_code == 3
    assert not verified.directory.exists()


def test_a_history_changes_no_figure_and_is_left_only_where_asked_for(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    told = virtual_gpu("a100-80gb", _with_and_without, a_model(tmp_path / "model"), str(tmp_path), count=0)
    assert told["with"] == told["without"]
    assert told["files"] == ["with.jsonl"]
    history = read_history(tmp_path / "with.jsonl")
    assert [(phase.phase, phase.step) for phase in history.phases] == [tuple(name) for name in told["phases"]]


def _with_and_without(model: str, directory: str) -> dict[str, Any]:
    from profiler.execute import local
    from profiler.execute.prepare import prepare_job
    from profiler.hardware.discovery import choose_device
    from profiler.process.protocol import HISTORY
    from tests.virtual.jobs import a_job, without_times

    job = prepare_job(a_job(model=model), choose_device("rtx-4090"), allow_busy=False)
    parts = SimpleNamespace(Popen=ForkedWorker, DEVNULL=subprocess.DEVNULL)
    path = Path(directory, "with.jsonl")
    with mock.patch.object(local, "subprocess", parts):
        without = local.run_prepared(job)
        record = local.run_prepared(job, keep={HISTORY: path})
    return {
        "without": without_times(without),
        "with": without_times(record),
        "files": sorted(found.name for found in Path(directory).glob("*.jsonl")),
        "phases": [(phase.name, phase.step) for phase in record.phases],
    }


def test_a_history_is_bounded_and_says_where_it_was_full(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    virtual_gpu("rtx-4090", _record_three_phases, str(tmp_path / "history.jsonl"))
    history = read_history(tmp_path / "history.jsonl")
    told = [(str(phase.phase), len(phase.events), phase.is_truncated) for phase in history.phases]
    # The context's phase starts the recording. A segment, two blocks and one free; then too much.
    assert told == [
        ("context", 0, False),
        ("load", 4, False),
        ("prepare", 0, True),
        ("adapt", 0, True),
    ]
    assert history.is_truncated
    assert [event[:3] for event in history.phases[1].events] == [
        ("segment_alloc", 2 * MIB, 0),
        ("alloc", 1000, 0),
        ("alloc", 2000, 1),
        ("free", 1000, 0),
    ]
    assert history.stacks[0][0].endswith(" _record_three_phases")


def _record_three_phases(path: str) -> None:
    from profiler.measure.history import HistoryRecorder

    def a_block(size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device="cuda")

    torch.cuda.mem_get_info()
    recorder = HistoryRecorder(Path(path), max_entries=20)
    recorder.end_phase(PhasePlace(PhaseName.CONTEXT))
    first, second = torch.empty(1000, dtype=torch.uint8, device="cuda"), a_block(2000)
    del first
    recorder.end_phase(PhasePlace(PhaseName.LOAD))
    for _ in range(20):
        a_block(100)
    recorder.end_phase(PhasePlace(PhaseName.PREPARE))
    del second
    recorder.end_phase(PhasePlace(PhaseName.ADAPT))
