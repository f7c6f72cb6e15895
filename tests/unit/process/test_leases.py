"""Two processes on a machine whose card they take for a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.builders import ROOT
from tests.unit.hardware.machines import Bench, Play, a_device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDER = """
import sys
from profiler.process.leases import lease_device
with lease_device("real", allow_busy=False) as leased:
    print(leased.choice.gpu.uuid, flush=True)
    sys.stdin.readline()
"""

ASK = """
from profiler.process.leases import lease_device

def ask(request, allow_busy=False):
    with lease_device(request, allow_busy=allow_busy) as leased:
        return {"uuid": getattr(leased.choice.gpu, "uuid", ""), "notes": leased.notes}
"""


@pytest.fixture(autouse=True)
def _own_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards of other tests' machines have the same UUIDs."""
    (tmp_path / "leases").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "leases"))


class Held:
    """A machine on which another process holds the first free card."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=bench.machine.environment(os.environ),
        )
        assert self.process.stdout is not None
        self.uuid = self.process.stdout.readline().strip()
        assert self.uuid.startswith("GPU-")


@pytest.fixture
def held(play: Play) -> Iterator[Held]:
    held = Held(play(a_device(), a_device()))
    yield held
    held.process.kill()
    held.process.communicate()


def test_a_card_that_another_peakvram_has_is_in_use_and_its_process_named(held: Held) -> None:
    told = held.bench.run(ASK, 'show(attempt(ask, "real:0"))')
    assert told["error"] == "EnvironmentUnfitError"
    assert told["message"] == (
        f"GPU 0 (NVIDIA GeForce RTX 4090) is in use: another peakvram (pid {held.process.pid}) measures on it"
    )
    assert "--allow-busy" in told["hint"]


def test_of_several_cards_one_is_taken_that_nobody_has(held: Held) -> None:
    told = held.bench.run(ASK, 'show(ask("real"))')
    assert told["notes"] == []
    assert told["uuid"] not in {"", held.uuid}


def test_beside_another_it_is_said_so_where_allowed(held: Held) -> None:
    told = held.bench.run(ASK, 'show(ask("real:0", allow_busy=True))')
    assert told == {
        "uuid": held.uuid,
        "notes": [f"another peakvram (pid {held.process.pid}) measured on the card"],
    }


def test_a_virtual_card_is_nobody_elses(held: Held) -> None:
    assert held.bench.run(ASK, 'show(ask("rtx-4090"))') == {"uuid": "", "notes": []}


def test_within_a_command_that_is_followed_on_the_card_it_is_ours(held: Held) -> None:
    told = held.bench.run(ASK, 'show(ask("real:0"))', PEAKVRAM_LEASE=held.uuid)
    assert told == {"uuid": held.uuid, "notes": []}


def test_the_card_of_a_killed_process_is_free(held: Held) -> None:
    held.process.kill()
    held.process.wait()
    assert held.bench.run(ASK, 'show(ask("real:0"))') == {"uuid": held.uuid, "notes": []}
