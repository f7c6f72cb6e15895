"""What a job says of an exception of the libraries: who raised it, at which module, what gets round it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from profiler.execute.raised import describe_error
from profiler.records.schema import OutcomeStatus, PhaseName
from tests.versions import needs
from tests.virtual.jobs import a_job, a_model, run_warm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.virtual.harness import WarmMachines

LLAMA4 = {
    "model_type": "llama4_text",
    "architectures": ["Llama4ForCausalLM"],
    "intermediate_size_mlp": 256,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1,
    "attention_chunk_size": 256,
}


class Router(torch.nn.Linear):
    """As that of some mixtures: a linear module by its kind, whose result is a pair."""

    def forward(self, tokens: Any) -> Any:
        scores = super().forward(tokens)
        return scores, scores.argmax(-1)


class Block(torch.nn.Module):
    """A projection and a router behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = torch.nn.Linear(8, 8)
        self.router = Router(8, 4)

    def forward(self, tokens: Any) -> Any:
        return self.router(self.proj(tokens))


def words_of(run: Any) -> list[str]:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever the libraries raise
        run()
    return describe_error(caught.value).splitlines()


def test_an_error_in_an_adapter_names_peft_the_module_and_targets_without_it() -> None:
    adapted = get_peft_model(torch.nn.Sequential(Block()), LoraConfig(target_modules=["proj", "router"]))
    said, raised, hint = words_of(lambda: adapted(torch.zeros(2, 8)))
    assert said == "AttributeError: 'tuple' object has no attribute 'dtype'"
    assert raised.startswith(f"raised in peft {version('peft')}, peft/tuners/lora/layer.py:")
    assert raised.endswith(" (forward), at 0.router (Linear)")
    assert hint == "hint: choose --targets proj, which leaves out router"


def test_where_nothing_else_could_be_adapted_the_hint_is_another_method() -> None:
    adapted = get_peft_model(torch.nn.Sequential(Block()), LoraConfig(target_modules=["router"]))
    assert (
        words_of(lambda: adapted(torch.zeros(2, 8)))[-1] == "hint: choose other --targets, or --method full"
    )


def test_an_error_of_torch_alone_names_the_module_that_was_computed_and_guesses_nothing() -> None:
    said, raised = words_of(lambda: torch.nn.Sequential(Block())(torch.zeros(2, 9)))
    assert said.startswith("RuntimeError: ")
    assert raised.startswith(f"raised in torch {version('torch')}, torch/nn/modules/linear.py:")
    assert raised.endswith("at 0.proj (Linear)")


def test_an_error_of_no_library_is_told_as_it_is() -> None:
    def fail() -> None:
        raise ValueError("of our own")

    assert words_of(fail) == ["ValueError: of our own"]


@needs(transformers="4.57")  # before, its router was no linear module
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_job_of_llama_4_says_which_module_takes_no_adapter_and_the_targets_it_names_run(
    method: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    model = a_model(tmp_path / "llama4", **LLAMA4)
    record = run_warm(virtual_gpu, a_job(model=model, method=method, steps=1))
    assert (record.outcome.status, record.outcome.phase) == (OutcomeStatus.ERROR, PhaseName.FORWARD)
    assert record.outcome.message is not None
    _, raised, hint = record.outcome.message.splitlines()
    assert raised.startswith("raised in peft ")
    assert "feed_forward.router" in raised
    targets = hint.removeprefix("hint: choose --targets ").removesuffix(", which leaves out router")
    told = run_warm(
        virtual_gpu, a_job(model=model, method={"kind": method, "targets": targets.split(",")}, steps=1)
    )
    assert told.outcome.status is OutcomeStatus.OK, told.outcome.message
