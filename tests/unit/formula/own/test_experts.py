from __future__ import annotations

from profiler.formula.configs import architecture_of
from profiler.formula.own.experts import Experts
from profiler.formula.own.ledger import Ledger
from profiler.formula.own.resident import adapter_tensors, trained_tensors, weights_bytes
from profiler.formula.own.scheme import scheme_of
from tests.unit.formula.shapes import a_tuning

# 8 experts of 14,336 behind a stream of 4,096; 32 blocks.
MIXTRAL = architecture_of("mixtral-8x7b")
EXPERTS_OF_A_BLOCK = 8 * 3 * 4096 * 14_336


def test_weights_count_every_expert_and_router() -> None:
    assert weights_bytes(MIXTRAL, scheme_of(a_tuning("lora"))) == 2 * MIXTRAL.num_parameters
    trained = trained_tensors(MIXTRAL, scheme_of(a_tuning("full")))
    assert sum(tensor.num_elements * count for tensor, count in trained) == MIXTRAL.num_parameters


def test_experts_are_not_quantized_and_preparation_makes_them_float32() -> None:
    quantized = weights_bytes(MIXTRAL, scheme_of(a_tuning("qlora")))
    assert quantized > 32 * EXPERTS_OF_A_BLOCK * 4
    assert quantized > weights_bytes(MIXTRAL, scheme_of(a_tuning("lora")))


def test_adapters_of_gate_and_up_share_a_tensor_of_twice_the_rank() -> None:
    tensors = adapter_tensors(MIXTRAL, scheme_of(a_tuning("lora", method_rank=16)))
    shapes = [(tensor.num_rows, tensor.num_columns) for tensor in tensors]
    assert shapes[-6:] == [
        *((8 * 32, 4096), (2 * 14_336, 8 * 32)),  # gate and up
        *((8 * 16, 14_336), (4096, 8 * 16)),  # down
        *((16, 4096), (8, 16)),  # the router
    ]


def test_an_adapted_block_keeps_a_second_copy_of_its_experts() -> None:
    kept = {}
    for targets in ("all-linear", "q_proj"):
        ledger = Ledger()
        scheme = scheme_of(a_tuning("lora", method_targets=targets))
        experts = Experts(architecture=MIXTRAL, scheme=scheme, ledger=ledger, tokens=64)
        ledger.hold("middle_norm", 64 * 4096 * 2)
        experts.forward()
        kept[targets] = int(str(ledger.held_bytes))
    assert kept["all-linear"] - kept["q_proj"] > EXPERTS_OF_A_BLOCK * 2


def test_experts_free_what_they_held() -> None:
    for kind in ("full", "lora", "qlora"):
        ledger = Ledger()
        experts = Experts(architecture=MIXTRAL, scheme=scheme_of(a_tuning(kind)), ledger=ledger, tokens=64)
        ledger.hold("middle_norm", 64 * 4096 * 2)
        experts.forward()
        ledger.release("experts")
        experts.backward()
        left = int(str(ledger.held_bytes - ledger.size("middle_norm.gradient")))
        assert 0 <= left - experts.gradients < 16 * 512
