from __future__ import annotations

import pytest

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.formula.runnable import check_runnable, max_seq_len
from tests.builders import a_job

EXPERTS = {"model": "qwen3-30b-a3b"}
CLASSES = {"task": "sequence-classification"}
BERT = {"model": "bert-base-uncased", **CLASSES}
BART = {"model": "bart-base", "task": "seq2seq-lm"}
SEES = {"model": "qwen2.5-vl-3b", "task": "image-text-to-text"}
GENERATING = {"kind": "inference", "new_tokens": 25}


@pytest.mark.parametrize(
    "changes",
    [
        {"method": {"kind": "lora", "targets": "self_attn.q_proj,mlp.up_proj,lm_head"}},
        {"method": {"kind": "lora", "targets": "model.layers.31.self_attn.q_proj"}},
        {"seq_len": 200_000},  # beyond what it was trained for: rotations have no end
        {"model": "gpt2", "seq_len": 1024},
        {"model": "gpt2", "seq_len": 1000, "method": GENERATING},  # the last token is not fed back
        {"model": "mixtral-8x7b", "method": {"kind": "lora", "targets": "w1,w2,w3,gate"}},
        {"model": "mixtral-8x7b", "method": {"kind": "lora", "targets": "q_proj", "dropout": 0.1}},
        {"model": "some/model", "method": {"kind": "lora", "targets": "what_it_may_have"}},
        {**BERT, "seq_len": 512},
        {**BART, "seq_len": 1024},
        {"model": "deberta-v3-base", **CLASSES, "attention": "eager", "seq_len": 4096},  # has no table
        {"model": "t5-base", "task": "seq2seq-lm", "seq_len": 4096},
        {"method": {"kind": "lora", "targets": "q_proj"}, "task": "token-classification"},
        {**SEES, "seq_len": 259},
    ],
)
def test_what_can_run_passes(changes: dict[str, object]) -> None:
    check_runnable(a_job(**changes), may_fetch=False)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"method": {"kind": "qlora", "targets": "q_prj"}}, "no module 'q_prj'", "did you mean 'q_proj'?"),
        ({"method": {"kind": "lora", "targets": "ALL-LINEAR"}}, "'ALL-LINEAR'", "all-linear names them all"),
        ({"method": {"kind": "lora", "targets": "layers.32.self_attn.q_proj"}}, "layers.32", "layers.3"),
        ({"method": {"kind": "lora", "targets": "q_proj,foo"}}, "no module 'foo'", "q_proj"),
        ({"method": {"kind": "lora", "targets": "q_proj,mlp"}}, "'mlp' .* no module that adapters", "q_proj"),
        ({"model": "gpt2", "seq_len": 1001, "method": GENERATING}, "not for 1025", "--seq-len 1000"),
        (
            {"model": "qwen3-30b-a3b", "method": {"kind": "lora", "targets": "gate_proj"}},
            "one tensor",
            "up_proj",
        ),
        ({"model": "qwen3-30b-a3b", "method": {"kind": "lora", "use_dora": True}}, "no DoRA", "q_proj"),
        ({"model": "gemma-2-2b"}, "no sdpa attention", "--attention eager"),
        ({"alloc_conf": "foo:1"}, "no setting 'foo'", "expandable_segments"),
        ({"model": "t5-base"}, "no class for causal-lm", "--task seq2seq-lm"),
        ({**BERT, "seq_len": 513}, "positions for 512 tokens, not for 513", "--seq-len 512"),
        ({"model": "roberta-base", **CLASSES, "seq_len": 513}, "positions for 512", "--seq-len 512"),
        ({**BART, "seq_len": 1024, "target_len": 1025}, "for 1024 tokens, not for 1025", "--target-len 1024"),
        (
            {"model": "llama-3.1-8b", "method": {"kind": "lora", "targets": "lm_head"}, **CLASSES},
            "has no module 'lm_head'",
            "q_proj",
        ),
        (
            {"method": {"kind": "lora", "targets": "score"}, **CLASSES},
            "no module that adapters can go to",
            "q_proj",
        ),
        ({"method": "lora", "task": "token-classification"}, "all-linear takes in the head", "query,value"),
        (
            {**SEES, "seq_len": 257},
            "a row of 257 tokens does not hold 1 images, which are 258",
            "--seq-len 259",
        ),
        ({"model": "no-such-model"}, "unknown model", ""),
    ],
)
def test_what_cannot_run_is_refused_with_a_way_out(
    changes: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_runnable(a_job(**changes))
    assert hint in caught.value.hint


def test_flash_attention_without_its_package_is_unfit() -> None:
    with pytest.raises(EnvironmentUnfitError, match="flash-attn"):
        check_runnable(a_job(attention="flash_attention_2"))


@pytest.mark.parametrize(
    "changes", [{"model": "gemma-2-2b"}, {"attention": "flash_attention_2"}, {"alloc_conf": "foo:1"}]
)
def test_what_hangs_on_the_libraries_is_left_out_where_others_may_be_used(changes: dict[str, object]) -> None:
    check_runnable(a_job(**changes), is_here=False)


def test_rows_are_limited_where_positions_are_learned() -> None:
    assert max_seq_len(a_job()) is None
    assert max_seq_len(a_job(model="gpt2")) == 1024
    assert max_seq_len(a_job(model="gpt2", method=GENERATING)) == 1000
