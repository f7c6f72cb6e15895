"""Files that someone else wrote, well meant or not: whatever they hold, one line and a hint, at once."""

from __future__ import annotations

import copy
import gzip
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from profiler.cli.app import run_command
from profiler.errors import PeakvramError
from profiler.estimate.factors import read_factors
from profiler.hardware.catalogue import read_catalogue
from profiler.records.store import RecordStore
from profiler.records.study import read_notes
from tests.builders import ROOT, a_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_S = 5.0
NUM_FILES = int(os.environ.get("PEAKVRAM_TEST_FILES", "12"))
"""Of each kind; 1,000 and more for the long mode."""
JOB = {
    "model": "smollm2-135m",
    "gpu": "rtx-4090",
    "batch_size": 1,
    "seq_len": 32,
    "method": {"kind": "lora", "rank": 8, "targets": ["q_proj"]},
    "gradient_checkpointing": True,
    "gpu_memory_bytes": 2**34,
    "alloc_conf": "",
    "steps": 2,
}
SWEEP = {
    "name": "s",
    "base": {"model": "smollm2-135m", "gpu": "rtx-4090"},
    "axes": {"seq_len": [32, 64]},
    "zip": {"batch_size": [1, 2], "steps": [2, 3]},
    "include": [{"model": "smollm2-135m", "method": {"kind": "lora", "rank": 4}}],
    "exclude": [{"seq_len": 64}],
}
CONFIG = json.loads((ROOT / "configs/models/smollm2-135m.json").read_text())
SHEET = yaml.safe_load((ROOT / "configs/gpus/rtx-4090.yaml").read_text())
FACTORS = json.loads((ROOT / "configs/factors.json").read_text())
RECORD = json.loads(a_record().model_dump_json())
NOTES = {"sweeps": [{"name": "s", "command": "peakvram sweep s"}]}

scalars = st.sampled_from(
    [
        *(None, True, 0, -1, 1, 2**31, 2**63, -(2**70), 10**400, 0.5, 1e308, float("nan"), float("inf")),
        *("", "x", "\0", "\x1b[31m", "a\nb", "../../x", "~nobody/x", "9" * 400, "1e400GiB", "(((a+)+)+)+$"),
        *("2001-99-99", "\u0663", "/proc/self", "method.rank", "auto", "real:-1", "*", "=1+1", "\ud800"),
    ]
)
values = st.recursive(
    scalars | st.integers() | st.floats() | st.text(max_size=4),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3),
    max_leaves=5,
)
noise = st.binary(max_size=60) | st.sampled_from(
    [b"[" * 10**5, b'{"a":' * 10**5, b"\xff\xfe", b"{" * 1000, b"&a [*a]", b"a: &a\n- *a\n", b"9" * 10**4]
)


def places_in(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every collection within a tree, with each key of it."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places_in(tree[key])


@st.composite
def changed(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with some of its values replaced, removed, or joined by ones that do not belong there."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_in(tree))
        if not places:
            break
        parent, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"])):
            case "remove":
                del parent[key]
            case "add" if isinstance(parent, dict):
                parent[draw(st.text(max_size=6))] = draw(values)
            case _:
                parent[key] = draw(values)
    return tree


def as_yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree).encode("utf-8", "surrogatepass")


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def as_pack(tree: Any) -> bytes:
    return gzip.compress(as_json(RECORD) + b"\n" + as_json(tree) + b"\n")


def estimate_job(path: Path) -> None:
    check(["estimate", "--config", str(path), "--json"])


def estimate_model(path: Path) -> None:
    model = path.parent / "model"
    model.mkdir(exist_ok=True)
    shutil.copy(path, model / "config.json")
    check(["estimate", str(model), "--gpu", "rtx-4090", "--seq-len", "32"])


def plan(path: Path) -> None:
    check(["plan", str(path), "--out", str(path.parent / "results")])


def read_gpu(path: Path) -> None:
    cards = path.parent / "cards"
    cards.mkdir(exist_ok=True)
    shutil.copy(path, cards / "x.yaml")
    read_catalogue(cards)


def report_record(path: Path) -> None:
    records = path.parent / "study" / "records"
    records.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, records / "x.json")
    RecordStore(records.parent).scan()
    check(["export", str(records.parent), "--out", str(path.parent / "export.csv")])


def report_pack(path: Path) -> None:
    study = path.parent / "packed"
    study.mkdir(exist_ok=True)
    shutil.copy(path, study / "records.jsonl.gz")
    check(["export", str(study), "--out", str(path.parent / "export.csv")])


def read_study(path: Path) -> None:
    study = path.parent / "noted"
    study.mkdir(exist_ok=True)
    shutil.copy(path, study / "study.json")
    read_notes(study)


def check(arguments: list[str]) -> None:
    assert run_command(arguments) in (0, 1, 2, 3)


KINDS: dict[str, tuple[Any, Callable[[Any], bytes], Callable[[Path], object]]] = {
    "job": (JOB, as_yaml, estimate_job),
    "sweep": (SWEEP, as_yaml, plan),
    "config": (CONFIG, as_json, estimate_model),
    "factors": (FACTORS, as_json, read_factors),
    "gpu": (SHEET, as_yaml, read_gpu),
    "record": (RECORD, as_json, report_record),
    "pack": (RECORD, as_pack, report_pack),
    "notes": (NOTES, as_json, read_study),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(0)
def test_no_file_of_any_kind_ends_in_a_traceback_or_takes_long(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, write, read = KINDS[kind]

    @settings(
        max_examples=NUM_FILES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize="PEAKVRAM_TEST_FILES" not in os.environ,
    )
    @given(changed(tree).map(write) | changed(tree).map(write) | changed(tree).map(write) | noise)
    @example(write(tree))
    def is_read_or_refused(content: bytes) -> None:
        path = tmp_path / "file.yaml"
        path.write_bytes(content)
        before_s = time.process_time()
        refused = ""
        try:
            read(path)
        except PeakvramError as error:
            refused = error.message
        assert "\n" not in refused
        assert time.process_time() - before_s < MAX_S
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        assert "\x1b" not in told.out + told.err

    is_read_or_refused()
