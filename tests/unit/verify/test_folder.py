from __future__ import annotations

import pytest

from profiler.jobs.identity import job_key
from profiler.records.schema import Outcome, OutcomeStatus
from profiler.verify.folder import contributed, without_paths
from tests.builders import a_job, a_real_device, a_record, a_report


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("OSError: /home/me/models/x/config.json: no such file", "OSError: .../config.json: no such file"),
        ('File "/opt/venv/lib/a.py", line 3', 'File ".../a.py", line 3'),
        ("~/secret/x.bin is corrupt", ".../x.bin is corrupt"),
        (
            "see https://pytorch.org/docs/stable/notes/cuda.html",
            "see https://pytorch.org/docs/stable/notes/cuda.html",
        ),
        ("of 79.25 GiB; 3/4 of it", "of 79.25 GiB; 3/4 of it"),
        ("meta-llama/Llama-3.1-8B cannot be had", "meta-llama/Llama-3.1-8B cannot be had"),
    ],
)
def test_of_a_path_only_the_last_part_is_left(text: str, left: str) -> None:
    assert without_paths(text) == left


def test_a_contributed_record_names_no_place_no_card_and_no_host() -> None:
    spec = a_job(model="/home/me/models/tiny", gpu="real:0")
    outcome = Outcome(status=OutcomeStatus.ERROR, message="no /home/me/models/tiny/config.json")
    record = contributed(a_record(spec=spec, report=a_report(device=a_real_device()), outcome=outcome))
    assert "/home" not in record.model_dump_json()
    assert record.spec.model == "tiny"
    assert record.key == job_key(record.spec)
    assert record.device is not None
    assert record.device.uuid is None
    assert record.environment is not None
    assert record.environment.hostname is None


def test_a_host_that_is_to_be_named_is() -> None:
    record = contributed(a_record(), hostname="gpu-1")
    assert record.environment is not None
    assert record.environment.hostname == "gpu-1"
