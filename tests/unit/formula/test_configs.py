from __future__ import annotations

import json
from typing import TYPE_CHECKING

import huggingface_hub
import pytest

from profiler.formula.configs import is_at_hand

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    is_at_hand.cache_clear()


def test_a_preset_and_a_directory_are_at_hand(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert is_at_hand("llama-3.1-8b")
    assert is_at_hand(str(tmp_path))


def test_a_name_that_means_nothing_needs_nothing() -> None:
    assert is_at_hand("no-such-model")


def test_a_model_of_the_hub_is_at_hand_if_it_is_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not is_at_hand("somebody/never-fetched")
    is_at_hand.cache_clear()
    config = tmp_path / "config.json"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(config))
    assert is_at_hand("somebody/never-fetched")
