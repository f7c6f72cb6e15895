from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.execute.study import read_study
from tests.unit.cli.conftest import scheduler  # noqa: F401 - a fixture
from tests.unit.cli.scheduler import SWEEP

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
