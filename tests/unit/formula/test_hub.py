from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from profiler.errors import ConfigError, EnvironmentUnfitError, PeakvramError
from profiler.formula.configs import architecture_of
from profiler.formula.hub import fetch_config
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY = "some/llama"
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "vocab_size": 10,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of huggingface_hub that knows one repository; nothing else can be reached."""
    snapshot = tmp_path / "models--some--llama" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    architecture_of.cache_clear()
    return tmp_path


def refusing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)


def an_answer(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("refused", response=response)


@pytest.mark.usefixtures("cache")
def test_a_cached_config_needs_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, AssertionError("nothing was to be fetched"))
    assert architecture_of(REPOSITORY).hidden_size == 8


@pytest.mark.usefixtures("cache")
def test_a_config_that_is_not_cached_is_not_found_offline() -> None:
    with pytest.raises(EnvironmentUnfitError, match="some/other is not on this machine") as raised:
        architecture_of("some/other")
    assert "preset" in raised.value.hint


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (an_answer(errors.GatedRepoError, 403), EnvironmentUnfitError, "licence"),
        (an_answer(errors.RepositoryNotFoundError, 404), ConfigError, "no model some/other at revision v2"),
        (an_answer(errors.RevisionNotFoundError, 404), ConfigError, "no model some/other at revision v2"),
        (an_answer(errors.RemoteEntryNotFoundError, 404), ConfigError, "no config.json"),
        (an_answer(errors.HfHubHTTPError, 500), EnvironmentUnfitError, "did not give it"),
        (OSError("no room"), EnvironmentUnfitError, "did not give it"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_what_the_hub_refuses_is_said(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[PeakvramError], text: str
) -> None:
    refusing(monkeypatch, error)
    with pytest.raises(expected, match=text):
        fetch_config("some/other", revision="v2")


@pytest.mark.usefixtures("cache")
def test_a_fetched_config_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "fetched.json"
    path.write_text(json.dumps(CONFIG | {"vocab_size": 99}))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(path))
    assert architecture_of("some/other", revision="v2").vocab_size == 99


def test_fetching_a_config_loads_no_torch() -> None:
    script = (
        "import sys\n"
        "from profiler.errors import PeakvramError\n"
        "from profiler.formula.hub import fetch_config\n"
        "try: fetch_config('some/other', revision=None)\n"
        "except PeakvramError: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert not set(result.stdout.split()) & {"torch", "transformers", "accelerate"}
