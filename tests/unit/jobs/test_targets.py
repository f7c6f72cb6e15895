from __future__ import annotations

import pytest

from profiler.jobs.targets import is_targeted

PATH = "model.layers.10.self_attn.q_proj"


@pytest.mark.parametrize(
    "target", ["q_proj", "self_attn.q_proj", "10.self_attn.q_proj", "layers.10.self_attn.q_proj", PATH]
)
def test_whole_names_at_the_end_of_a_path_name_it(target: str) -> None:
    assert is_targeted(PATH, ["v_proj", target])


@pytest.mark.parametrize("target", ["proj", "_proj", "0.self_attn.q_proj", "self_attn", "k_proj", "x.q_proj"])
def test_nothing_else_does(target: str) -> None:
    assert not is_targeted(PATH, [target])
