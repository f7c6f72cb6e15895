from __future__ import annotations

import gzip
import itertools
from typing import TYPE_CHECKING

import pytest

from profiler.jobs.sweep import Sweep
from profiler.records.redact import MASK, redact_command, redact_text
from profiler.records.schema import Outcome, OutcomeStatus
from profiler.records.store import RecordStore
from profiler.records.study import SweepNote
from tests.builders import ROOT, a_record, a_report, an_environment

if TYPE_CHECKING:
    from pathlib import Path

HF, OPENAI, GITHUB = f"hf_{'aB3' * 11}", f"sk-proj-{'x9' * 12}", f"ghp_{'k' * 36}"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("train.py --hf_token s3cr3t", "train.py --hf_token ***"),
        ("train.py --hf_token=s3cr3t", "train.py --hf_token=***"),
        ("train.py --hub-token s3cr3t --steps 3", "train.py --hub-token *** --steps 3"),
        ("train.py -token s3cr3t", "train.py -token ***"),
        ("train.py --wandb.apiKey s3cr3t", "train.py --wandb.apiKey ***"),
        ("train.py hub.token=s3cr3t +logger.api_key=s3cr3t", "train.py hub.token=*** +logger.api_key=***"),
        ("train.py --password 123456", "train.py --password ***"),
        ("train.py --db_password_value=s3cr3t", "train.py --db_password_value=***"),
        ("train.py --client_secret s3cr3t", "train.py --client_secret ***"),
        ("train.py --key s3cr3t --apikey s3cr3t", "train.py --key *** --apikey ***"),
        ("env HF_TOKEN=s3cr3t A=b python train.py", "env HF_TOKEN=*** A=b python train.py"),
        ("env AWS_SECRET_ACCESS_KEY=s3cr3t x", "env AWS_SECRET_ACCESS_KEY=*** x"),
        ("env AWS_ACCESS_KEY_ID=s3cr3t x", "env AWS_ACCESS_KEY_ID=*** x"),
        (f"train.py {HF}", "train.py ***"),
        (f"train.py --data {OPENAI},{GITHUB}", "train.py --data ***,***"),
        ("clone https://me:s3cr3t@host/a.git", "clone https://***@host/a.git"),
        ("clone https://s3cr3t@host/a.git", "clone https://***@host/a.git"),
        ("x --db postgres://me:s3cr3t@host/db", "x --db postgres://***@host/db"),
        ("x https://host/a?token=s3cr3t&b=1", "x https://host/a?token=***&b=1"),
    ],
)
def test_the_secrets_of_a_command_are_not_kept(words: str, kept: str) -> None:
    assert redact_command(words.split(" ")) == tuple(kept.split(" "))


@pytest.mark.parametrize(
    "words",
    [
        "python train.py --tokenizer meta-llama/Llama-3.1-8B --max_new_tokens 128 --pad_token_id 0",
        "python train.py --tokenizer_name=gpt2 --max-tokens=2048 --tokens_per_batch 4096",
        "python train.py --keypoint x --keyboard us --monkey x --turkey=y --key_size 256",
        "python train.py --eos_token </s> --pad_token <pad> --bos-token=<s> --image_token x",
        "python train.py --sort_key loss --dataset-key text --primary_key=id --metric_key acc",
        "python train.py --use_auth_token True --use_auth_token --push_to_hub",
        "python train.py --token --output_dir out",
        "torchrun --nproc-per-node 1 train.py lr=0.1 model.hidden_size=64 optimizer=adamw",
        "python -m hf_transfer hf_hub_download task-classification risk-averse-optimization-run",
        "git clone ssh://git@host/a.git https://host/a@v1",
        "env CUDA_VISIBLE_DEVICES=0 TOKENIZERS_PARALLELISM=false python train.py",
        "python train.py --secret_sharing_is_on true",
    ],
)
def test_what_only_sounds_like_a_secret_is_kept(words: str) -> None:
    assert redact_command(words.split(" ")) == tuple(words.split(" "))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "HF_TOKEN=s3cr3t python train.py --api-key s3cr3t -v",
            "HF_TOKEN=*** python train.py --api-key *** -v",
        ),
        ("import os; login(token='s3cr3t')", "import os; login(token='***')"),
        ('{"hf_token": "s3cr3t", "steps": 3}', '{"hf_token": "***", "steps": 3}'),
        (f"curl -H 'Authorization: Bearer {'a1' * 10}' host", "curl -H 'Authorization: Bearer ***' host"),
    ],
)
def test_a_command_within_a_word_is_read_too(text: str, kept: str) -> None:
    assert redact_command(["sh", "-c", text]) == ("sh", "-c", kept)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB; set PYTORCH_ALLOC_CONF=expandable_segments:True",
        "tokenizer.pad_token = tokenizer.eos_token",
        "sorted(rows, key=len)",
        "KeyError: 'model.embed_tokens.weight'",
        "the option --token is missing",
    ],
)
def test_a_message_that_holds_none_stays(text: str) -> None:
    assert redact_text(text) == text


def test_a_message_is_kept_without_them() -> None:
    said = f"401 for https://u:p@host/x with {HF}: --hf_token=s3cr3t, WANDB_API_KEY=s3cr3t"
    assert redact_text(said) == "401 for https://***@host/x with ***: --hf_token=***, WANDB_API_KEY=***"


def test_nothing_is_hidden_twice() -> None:
    once = redact_command(["x", "--token", "s3cr3t", "--hf_token=s3cr3t", "https://a:b@c/", HF, "password=p"])
    assert redact_command(once) == once


def test_a_record_keeps_none_of_what_a_worker_said() -> None:
    said = f"OSError: 401 for https://me:s3cr3t@host with {HF}"
    outcome = Outcome(status=OutcomeStatus.ERROR, message=said)
    report = a_report(
        notes=(said,), environment=an_environment(variables={"HF_HUB_OFFLINE": f"https://{HF}@host"})
    )
    record = a_record(report=report, outcome=outcome)
    assert "s3cr3t" not in record.model_dump_json()
    assert HF not in record.model_dump_json()


def test_a_study_keeps_none_of_the_command_of_its_sweep() -> None:
    command = f"peakvram sweep s.yaml --set model=https://me:s3cr3t@host/{HF}"
    note = SweepNote(command=command, sweep=Sweep(name="s"))
    assert note.command == "peakvram sweep s.yaml --set model=https://***@host/***"


@pytest.mark.parametrize("path", sorted((ROOT / "results").rglob("records.jsonl.gz")), ids=str)
def test_the_published_records_hold_none(path: Path) -> None:
    assert MASK.encode() not in gzip.decompress(path.read_bytes())
    items = list(itertools.islice(RecordStore(path.parent).read(), 200))
    assert items
    assert all(MASK not in item.record.model_dump_json() for item in items)
