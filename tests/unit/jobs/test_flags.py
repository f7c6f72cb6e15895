from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, create_model

from profiler.errors import ConfigError
from profiler.jobs.choices import Loop
from profiler.jobs.flags import JOB_FLAGS, JobFlag, job_flags, read_job
from profiler.jobs.job import METHODS, Full, JobSpec, Lora, QLora
from profiler.jobs.load import read_yaml
from tests.builders import a_job

if TYPE_CHECKING:
    from pathlib import Path


def job_of(*settings: str, config: Path | None = None, **flags: Any) -> JobSpec:
    data = read_yaml(config) if config else {}
    return read_job(flags, data=data, source=str(config or ""), settings=settings, environ={})[0]


def a_file(text: str, directory: Path) -> Path:
    path = directory / "job.yaml"
    path.write_text(text)
    return path


def refusal_of(*settings: str, config: Path | None = None, **flags: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        job_of(*settings, config=config, **flags)
    return caught.value


def test_a_model_alone_is_a_job_with_every_default() -> None:
    assert job_of(model="llama-3.1-8b") == JobSpec(model="llama-3.1-8b")


def test_flags_of_the_default_method_need_no_method() -> None:
    assert job_of(model="x", rank="8").method == QLora(rank=8)


def test_flags_change_what_a_file_says(tmp_path: Path) -> None:
    config = a_file("model: x\nbatch_size: 2\nseq_len: 512\nmethod: {kind: lora, rank: 4}\n", tmp_path)
    job = job_of(config=config, batch_size="8", rank="64")
    assert (job.model, job.batch_size, job.seq_len, job.method) == ("x", 8, 512, Lora(rank=64))


def test_settings_change_what_flags_say() -> None:
    assert job_of("batch_size=3", "method.targets=[q, v]", model="x", batch_size="8") == JobSpec(
        model="x", batch_size=3, method=QLora(targets=("q", "v"))
    )


def test_another_method_keeps_what_applies_to_both(tmp_path: Path) -> None:
    config = a_file("model: x\nmethod: {kind: qlora, rank: 64, quant: fp4}\n", tmp_path)
    assert job_of(config=config, method="lora").method == Lora(rank=64)
    assert job_of(config=config, method="full").method == Full()


def test_another_method_does_not_hide_a_mistake_in_the_file(tmp_path: Path) -> None:
    config = a_file("model: x\nmethod: {kind: qlora, rnak: 64}\n", tmp_path)
    assert "method.rnak: unknown key" in refusal_of(config=config, method="lora").message


def test_a_flag_that_does_not_apply_to_the_method_says_so() -> None:
    error = refusal_of(model="x", method="full", rank="8")
    assert error.message == "--rank: does not apply to method 'full'"
    assert error.hint == "it belongs to lora, qlora, int8-lora"


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        ({"method": "qlra"}, "--method: there is no method 'qlra'", "did you mean 'qlora'?"),
        (
            {"optimizer": "adam8bit"},
            "--optimizer: 'adam8bit' is not one of its values",
            "did you mean 'adamw_bnb_8bit'?",
        ),
        ({"precision": "bf61"}, "--precision: 'bf61' is not one of its values", "did you mean 'bf16'?"),
        ({"rank": "0"}, "--rank: must be at least 1, not 0", ""),
        ({"rank": "2.5"}, "--rank: expected a whole number, found 2.5", ""),
        ({"seq_len": "-1"}, "--seq-len: must be at least 1, not -1", ""),
        ({"seq_len": "1e4"}, "--seq-len: expected a whole number, found 10000.0", ""),
        ({"dropout": "nan"}, "--dropout: expected a number, found nan", ""),
        (
            {"gpu_memory": "2XB"},
            "--gpu-memory: 'XB' is no unit of bytes; use KiB, MiB, GiB, TiB or KB, MB, GB, TB",
            None,
        ),
        ({"gpu": "real:x"}, "--gpu: 'real:x' names no card", None),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_flag_is_named(flags: dict[str, Any], message: str, hint: str | None) -> None:
    error = refusal_of(model="x", **flags)
    assert error.message == message
    assert hint is None or error.hint == hint


def test_a_wrong_setting_is_named() -> None:
    assert refusal_of("method.rank=0", model="x").message == "--set method.rank: must be at least 1, not 0"


@pytest.mark.parametrize("setting", ["batch_size", "=3", " =3"])
def test_a_setting_that_is_no_pair_is_refused(setting: str) -> None:
    assert "is no KEY=VALUE" in refusal_of(setting, model="x").message


def test_without_a_model_the_error_says_what_to_give(tmp_path: Path) -> None:
    assert "no model is named" in refusal_of().message
    assert "no model is named" in refusal_of(config=a_file("seq_len: 8\n", tmp_path)).message


def test_reentrant_checkpointing_turns_checkpointing_on() -> None:
    assert job_of(model="x", reentrant=True) == JobSpec(model="x", gradient_checkpointing={"reentrant": True})


def test_checkpointing_flags_that_contradict_are_refused() -> None:
    assert "reentrant" in refusal_of(model="x", reentrant=True, gradient_checkpointing=False).message


def test_allocator_settings_of_the_environment_are_adopted_with_the_reason() -> None:
    environ = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    job, reason = read_job({"model": "x"}, data={}, environ=environ)
    assert job.alloc_conf == "expandable_segments:True"
    assert reason == "alloc_conf adopted from PYTORCH_ALLOC_CONF in the environment"


def test_allocator_settings_that_disagree_with_the_environment_are_refused() -> None:
    with pytest.raises(ConfigError, match="PYTORCH_CUDA_ALLOC_CONF"):
        read_job(
            {"model": "x", "alloc_conf": "expandable_segments:True"},
            data={},
            environ={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"},
        )


def test_every_field_of_a_job_has_a_flag() -> None:
    fields = {name for name in JobSpec.model_fields if name not in {"method", "gradient_checkpointing"}}
    fields |= {f"method.{name}" for method in METHODS.values() for name in method.model_fields}
    fields |= {"gradient_checkpointing.enabled", "gradient_checkpointing.reentrant"}
    assert {flag.path for flag in JOB_FLAGS} == fields


def test_a_job_is_the_same_from_a_file_and_from_flags(tmp_path: Path) -> None:
    config = a_file("model: llama-3.1-8b\ngpu: rtx-4090\nmethod: {kind: lora, targets: [q, v]}\n", tmp_path)
    from_flags = job_of(model="llama-3.1-8b", gpu="rtx-4090", method="lora", targets="v,q")
    assert job_of(config=config) == from_flags == a_job(method={"kind": "lora", "targets": "q,v"})


def test_no_two_keys_have_the_same_flag() -> None:
    names = [flag.name for flag in JOB_FLAGS]
    assert len(set(names)) == len(names)


def flag_of(annotation: Any, default: Any, said: str) -> JobFlag:
    """The flag of the only key of a job."""
    fields: dict[str, Any] = {"some_key": (annotation, default)}
    model = create_model("Job", __doc__=f"A job.\n\n    Attributes:\n        some_key{said}\n", **fields)
    (flag,) = job_flags(model)
    return flag


@pytest.mark.parametrize(
    ("annotation", "default", "said", "metavar", "help_"),
    [
        (int, 4, ": how many.", "N", "How many (default 4)"),
        (int, 4, " (K): how\n            many.", "K", "How many (default 4)"),
        (bool, False, ": do it.", "", "Do it (default off)"),
        (str, "auto", ": auto, or a name.", "NAME", "auto, or a name (default auto)"),
        (str | None, None, ": a name.", "NAME", "A name."),
        (Loop, Loop.PLAIN, " (KIND): whose loop.", "KIND", "Whose loop: plain or trainer (default plain)"),
        (Loop, Loop.PLAIN, ": plain, or trainer's.", "NAME", "plain, or trainer's (default plain)"),
        (Loop, Loop.PLAIN, "_of_another: it.", "NAME", "plain or trainer (default plain)"),
    ],
)
def test_a_flag_says_what_its_key_says(
    annotation: Any, default: Any, said: str, metavar: str, help_: str
) -> None:
    flag = flag_of(annotation, default, said)
    assert (flag.label, flag.metavar, flag.help) == ("--some-key", metavar, help_)


class Nothing(BaseModel):
    kind: Literal["nothing"] = "nothing"
    rank: int = 8


class Adapters(BaseModel):
    """What is trained.

    Attributes:
        rank: rank of the adapters.
    """

    kind: Literal["adapters"] = "adapters"
    rank: int = 16


class TwoMethods(BaseModel):
    method: Adapters | Nothing = Adapters()


def test_a_key_of_two_methods_says_where_its_default_differs() -> None:
    kind, rank = job_flags(TwoMethods)
    assert (kind.name, kind.help) == ("method", "adapters or nothing (default adapters)")
    assert (rank.path, rank.help) == ("method.rank", "Rank of the adapters (default 16); nothing has 8")


def test_a_choice_of_two_methods_says_what_the_other_takes_too() -> None:
    (quant,) = (flag for flag in JOB_FLAGS if flag.name == "quant")
    assert quant.help == (
        "4-bit type of the weights: nf4 or fp4 (default nf4); inference also takes none, its default, "
        "and int8"
    )
    assert set(quant.choices) == {"nf4", "fp4", "none", "int8"}


def test_every_key_has_a_help() -> None:
    assert [flag.label for flag in JOB_FLAGS if not flag.help.rstrip(".")] == []
