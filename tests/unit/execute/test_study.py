from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.execute.study import read_study
from tests.unit.cli.conftest import scheduler  # noqa: F401 - a fixture
from tests.unit.cli.scheduler import SWEEP
from tests.versions import needs

if TYPE_CHECKING:
    from tests.unit.cli.scheduler import Scheduler


def test_a_refused_configuration_names_the_file(
    scheduler: Scheduler,  # noqa: F811 - the fixture
) -> None:
    Path("sweep.yaml").write_text(SWEEP.replace("rtx-4090", "rtx-4091"))
    with pytest.raises(ConfigError) as caught:
        read_study(Path("sweep.yaml"), out=None, gpu=None, settings=[], environ={})
    assert caught.value.message == "sweep.yaml: unknown GPU 'rtx-4091'"
    assert "rtx-4090" in caught.value.hint
    assert scheduler.asked == []


@needs(transformers="5.22")
def test_jobs_without_an_attention_take_what_their_model_has_and_one_line_says_so(
    scheduler: Scheduler,  # noqa: F811 - the fixture
) -> None:
    axes = "axes: {model: [gemma-2-2b, llama-3.2-1b], seq_len: [256, 512]}"
    Path("sweep.yaml").write_text(f"name: mixed\nbase: {{gpu: rtx-4090, method: lora}}\n{axes}\n")
    study = read_study(Path("sweep.yaml"), out=None, gpu=None, settings=[], environ={})
    assert [(job.model, str(job.attention)) for job in study.jobs] == [
        *[("gemma-2-2b", "eager")] * 2,
        *[("llama-3.2-1b", "sdpa")] * 2,
    ]
    (reason,) = study.reasons
    assert reason.startswith("attention is eager: gemma-2-2b has no sdpa attention in transformers ")
    assert scheduler.asked == []


@needs(transformers="5.22")
def test_two_jobs_that_are_one_with_an_attention_are_one(
    scheduler: Scheduler,  # noqa: F811 - the fixture
) -> None:
    include = "include: [{model: gemma-2-2b}, {model: gemma-2-2b, attention: eager}]"
    Path("sweep.yaml").write_text(f"name: twice\nbase: {{gpu: rtx-4090, method: lora}}\n{include}\n")
    study = read_study(Path("sweep.yaml"), out=None, gpu=None, settings=[], environ={})
    assert len(study.expansion.jobs) == 2
    assert len(study.jobs) == 1
    assert scheduler.asked == []
