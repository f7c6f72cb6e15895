from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from profiler.cli.app import run_command

NOT_OF_THE_JOB = ("does not speak of this job", "no formula knows the shapes")
"""What `estimate` cannot say of a job that runs."""


def told(*arguments: str) -> tuple[int, str]:
    """The exit code of a command on a virtual card, and all that it says."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = run_command([*arguments, "--gpu", "rtx-4090"])
    return code, said.getvalue()


def test_a_job_that_can_run_is_said_to() -> None:
    code, said = told("run", "gpt2", "--seq-len", "1024", "--dry-run")
    assert code == 0
    assert said.startswith("gpt2 can run on NVIDIA GeForce RTX 4090")


def test_as_json_the_answer_is_there_whether_it_can_or_not() -> None:
    code, said = told("run", "gpt2", "--seq-len", "1024", "--dry-run", "--json")
    assert (code, json.loads(said)["can_run"]) == (0, True)
    code, said = told("run", "gpt2", "--seq-len", "2048", "--dry-run", "--json")
    answer = json.loads(said)
    assert (code, answer["can_run"]) == (2, False)
    assert answer["message"] == "gpt2 has positions for 1024 tokens, not for 2048"
    assert answer["hint"] == "choose --seq-len 1024 or less"
    assert answer["job"]["seq_len"] == 2048


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llama-3.1-8b", "--targets", "q_prj"], "has no module 'q_prj'\nhint: did you mean 'q_proj'?"),
        (["llama-3.1-8b", "--targets", "all"], "has no module 'all'"),
        (["llama-3.1-8b", "--targets", "q_proj,foo"], "has no module 'foo'"),
        (["llama-3.1-8b", "--targets", "mlp"], "no module that adapters can go to"),
        (["gpt2", "--targets", "q_proj", "--seq-len", "512"], "its linear layers are c_attn, c_proj, c_fc"),
        (["gpt2", "--seq-len", "1025"], "positions for 1024 tokens"),
        (["gpt2", "--task", "seq2seq-lm"], "has no class for seq2seq-lm"),
        (["gemma-2-2b", "--attention", "sdpa"], "has no sdpa attention"),
        (["llama-3.1-8b", "--alloc-conf", "expandable_segment:True"], "did you mean 'expandable_segments'?"),
        (["llama-3.1-8b", "--alloc-conf", "max_split_size_mb:8"], "at least 20"),
        (["mixtral-8x7b", "--dropout", "0.1"], "no dropout for the experts"),
        (["qwen3-30b-a3b", "--targets", "up_proj"], "name gate_proj too, or neither"),
    ],
)
@pytest.mark.parametrize("command", [["run", "--dry-run"], ["estimate"], ["estimate", "--all-formulas"]])
def test_what_cannot_run_is_refused_by_every_command(
    command: list[str], arguments: list[str], message: str
) -> None:
    code, said = told(command[0], *arguments, *command[1:])
    assert code == 2
    assert message in said


@pytest.mark.parametrize("command", [["run", "--dry-run"], ["estimate"]])
def test_a_job_that_names_no_attention_takes_what_its_model_has_and_says_so(command: list[str]) -> None:
    code, said = told(command[0], "gemma-2-2b", "--method", "lora", *command[1:])
    assert code == 0
    assert said.count("attention is eager: gemma-2-2b has no sdpa attention in transformers ") == 1


def test_a_job_that_names_neither_task_nor_length_takes_what_suits_its_model_and_says_so() -> None:
    code, said = told("run", "bert-base-uncased", "--method", "full", "--dry-run")
    assert code == 0
    assert said.count("task is sequence-classification: that is what bert-base-uncased is for") == 1
    assert said.count("seq_len is 512: bert-base-uncased has positions for 512 tokens") == 1


jobs = st.fixed_dictionaries(
    {"--method": st.sampled_from(["full", "lora", "qlora", "int8-lora", "inference"])},
    optional={
        "--seq-len": st.sampled_from(["1", "512", "993", "1024", "1025", "4096", "200000"]),
        "--batch-size": st.sampled_from(["0", "1", "8"]),
        "--targets": st.sampled_from(
            ["all-linear", "q_proj", "q_prj", "all", "self_attn.q_proj", "c_attn", "lm_head", "mlp", "gate"]
        )
        | st.lists(st.sampled_from(["q_proj", "up_proj", "gate_proj", "fc1", "w1", "w3"]), min_size=1).map(
            ",".join
        ),
        "--alloc-conf": st.sampled_from(
            ["expandable_segments:True", "expandable_segments:true", "max_split_size_mb:19", "foo:1", "x"]
        ),
        "--attention": st.sampled_from(["sdpa", "eager", "flash_attention_2"]),
        "--precision": st.sampled_from(["bf16", "fp32", "fp16-amp", "fp16-autocast"]),
        "--dropout": st.sampled_from(["0", "0.1", "1"]),
        "--new-tokens": st.sampled_from(["1", "32"]),
    },
)
models = st.sampled_from(
    [
        "llama-3.1-8b",
        "gpt2",
        "gemma-2-2b",
        "phi-2",
        "mixtral-8x7b",
        "qwen3-30b-a3b",
        "qwen3.5-0.8b",
        "no-such",
    ]
)


@settings(deadline=None, max_examples=100)
@given(models, jobs)
@example("no-such", {"--alloc-conf": "expandable_segments:true"})
def test_an_estimate_and_a_dry_run_agree_on_what_can_run(model: str, flags: dict[str, str]) -> None:
    arguments = [model, *(part for flag in flags.items() for part in flag)]
    can_run, why_not = told("run", *arguments, "--dry-run")
    code, said = told("estimate", *arguments, "--no-derive")
    if code == 2 and any(reason in said for reason in NOT_OF_THE_JOB):
        code = 0
    assert code == can_run, (why_not, said)
    if code != 0:
        assert said.splitlines()[0] == why_not.splitlines()[0]
