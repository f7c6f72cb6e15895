from __future__ import annotations

import gzip
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from profiler.errors import ConfigError
from profiler.formula.derived.evaluate import DerivedFormula
from profiler.formula.derived.file import (
    MAX_FILE_BYTES,
    CheckedRun,
    Phase,
    Regime,
    pack_derived,
    read_derived,
)
from profiler.formula.own.parts import WORKSPACE_BYTES
from profiler.records.schema import PhaseName
from tests.builders import ROOT
from tests.unit.formula.derived.files import a_file, a_run, pack_text, quickly

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHECK = CheckedRun(
    batch_size=2,
    seq_len=300,
    allocated_bytes=10,
    allocated_difference_bytes=0,
    reserved_bytes=20,
    reserved_difference_bytes=-2,
)


def tree(**changes: Any) -> dict[str, Any]:
    """A file as its JSON says it."""
    found: dict[str, Any] = a_file().model_dump(mode="json")
    return found | changes


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = a_file(checks=(CHECK,), job={"method": {"kind": "lora", "rank": 16}})
    path = tmp_path / "one.json.gz"
    path.write_bytes(pack_derived(file))
    assert read_derived(path) == file
    assert pack_derived(read_derived(path)) == path.read_bytes()


def test_a_person_can_read_it() -> None:
    text = gzip.decompress(pack_derived(a_file())).decode()
    assert json.loads(text)["format"] == "peakvram-derived-1"
    assert '  "2048*b*s",' in text.splitlines()


def steps(names: Sequence[tuple[str, int | None]]) -> list[dict[str, Any]]:
    return [{"phases": [{"name": name, "step": step, "body": 1} for name, step in names]}]


ONE = {"batch_size": 1, "seq_len": 64, "regime": 0}
LOADED: list[tuple[str, int | None]] = [("load", None), ("forward", 0), ("backward", 0)]
CHECKED = CHECK.model_dump()
HOSTILE = {
    "not JSON": ("{", "the file: invalid json"),
    "no text": (b"\xff\xfe\x00", "the file: invalid json"),
    "a list": ("[]", "the file: input should be an object"),
    "nested without end": ("[" * 1_000_000, "the file: invalid json"),
    "another JSON": (json.dumps({"model_type": "llama"}), "key: field required"),
    "another format": (tree(format="peakvram-derived-2"), "format: input should be 'peakvram-derived-1'"),
    "a field of its own": (tree(more=1), "more: extra inputs are not permitted"),
    "a negative body": (
        tree(regimes=[{"phases": [{"name": "load", "body": -1}]}]),
        "regimes.0.phases.0.body",
    ),
    "a body as a text": (
        tree(regimes=[{"phases": [{"name": "load", "body": "1"}]}]),
        "regimes.0.phases.0.body",
    ),
    "a phase of no run": (
        tree(regimes=[{"phases": [{"name": "lunch", "body": 0}]}]),
        "regimes.0.phases.0.name",
    ),
    "many wrong things": (tree(bodies=[0] * 1_000_000), "bodies.0: input should be a valid string"),
    "many sizes": (tree(sizes=["1"] * 100_000), "sizes: tuple should have at most 4096 items"),
    "many phases": (tree(regimes=steps([("load", None)] * 100_000)), "tuple should have at most 4096 items"),
    "a size that is none": (tree(sizes=["1*x"]), "no term of a size: '1*x'"),
    "a body that is not there": (tree(bodies=[]), "a phase is of a body that is not there"),
    "no phases": (tree(regimes=[{"phases": []}]), "phases of a run are missing"),
    "no step": (tree(regimes=steps([("load", None)])), "phases of a run are missing"),
    "no load": (tree(regimes=steps(LOADED[1:])), "phases of a run are missing"),
    "no backward": (tree(regimes=steps(LOADED[:2])), "phases of a run are missing"),
    "steps that begin late": (tree(regimes=steps([*LOADED, ("forward", 2)])), "not in order"),
    "steps backwards": (tree(regimes=steps([*LOADED, ("forward", 1), ("step", 0)])), "not in order"),
    "a step far away": (tree(regimes=steps([*LOADED, ("forward", 10**18)])), "not in order"),
    "a check of nothing": (tree(checks=[CHECKED | {"allocated_bytes": 0}]), "checks.0.allocated_bytes"),
    "a check far off": (
        tree(checks=[CHECKED | {"reserved_difference_bytes": -(10**400)}]),
        "checks.0.reserved_difference_bytes",
    ),
    "no runs": (tree(seen=[]), "it says of no batch what happens"),
    "a regime that is not there": (
        tree(seen=[ONE | {"regime": 1}]),
        "a run is of a regime that is not there",
    ),
    "no regimes": (tree(regimes=[]), "a run is of a regime that is not there"),
    "a run of nothing": (tree(seen=[ONE | {"batch_size": 0}]), "seen.0.batch_size"),
    "runs upon runs": (tree(seen=[ONE] * 100_000), "seen"),
}


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_formula_is_told_in_one_line(
    tmp_path: Path, content: str | bytes | dict[str, Any], reason: str
) -> None:
    text = json.dumps(content) if isinstance(content, dict) else content
    path = pack_text(tmp_path / "one.json.gz", text)
    with quickly(), pytest.raises(ConfigError) as caught:
        read_derived(path)
    assert caught.value.message.startswith(f"{path} is no derived formula: ")
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint == "remove it"


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_torn_file_is_told(tmp_path: Path, share: float) -> None:
    whole = pack_derived(a_file())
    path = tmp_path / "one.json.gz"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ConfigError, match=r"is torn|is no derived formula"):
        read_derived(path)


def test_bytes_that_changed_are_told(tmp_path: Path) -> None:
    path = tmp_path / "one.json.gz"
    whole = pack_derived(a_file())
    for place in range(0, len(whole), 7):
        if 3 <= place <= 9:
            continue  # flags, time and system of the head say nothing of the content
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(ConfigError):
            read_derived(path)


def test_a_file_that_grows_as_it_is_unpacked_is_left(tmp_path: Path) -> None:
    path = tmp_path / "one.json.gz"
    with gzip.open(path, "wb", 9) as file:
        for _ in range(64):
            file.write(bytes(1 << 22))
    assert path.stat().st_size < MAX_FILE_BYTES // 16
    with quickly(), pytest.raises(ConfigError, match="it is too large"):
        read_derived(path)


def test_what_is_not_compressed_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "one.json.gz"
    path.write_text(a_file().model_dump_json())
    with pytest.raises(ConfigError, match="it is torn"):
        read_derived(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    directory, pipe, gone = tmp_path / "directory", tmp_path / "pipe", tmp_path / "gone"
    directory.mkdir()
    os.mkfifo(pipe)
    for path, reason in ((directory, "it is no file"), (pipe, "it is no file"), (gone, "no such file")):
        with pytest.raises(ConfigError, match=f"cannot read .*: {reason}"):
            read_derived(path)


def test_a_regime_of_a_hand_made_run_has_its_phases() -> None:
    (regime,) = a_file(a_run()).regimes
    assert isinstance(regime, Regime)
    assert regime.phases[0] == Phase(name=PhaseName.CONTEXT, body=0)
    assert regime.phases[-1].step == 1


def test_the_file_that_is_shown_is_one_and_its_check_holds(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "derived.md").read_text(encoding="utf-8")
    shown = page.partition("```json\n")[2].partition("```")[0]
    file = read_derived(pack_text(tmp_path / "one.json.gz", shown))
    (check,) = file.checks
    done = DerivedFormula(file).replay(
        0, check.batch_size, check.seq_len, workspace_bytes=WORKSPACE_BYTES, num_steps=1
    )
    assert (check.allocated_bytes, check.reserved_bytes) == (done.allocated_bytes, done.reserved_bytes)
