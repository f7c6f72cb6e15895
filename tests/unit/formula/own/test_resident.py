"""Resident bytes against figures worked out by hand, and against the published virtual records."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from profiler.formula.breakdown import shape_of
from profiler.formula.configs import architecture_of
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.formula.own.resident import (
    adapters_bytes,
    loading_bytes,
    quantization_state_bytes,
    trained_tensors,
    weights_bytes,
)
from profiler.formula.own.scheme import scheme_of
from profiler.records.schema import Record
from tests.builders import ROOT
from tests.unit.formula.shapes import a_model, a_tuning

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture

STUDIES = ROOT / "results"

# One block whose seven matrices are 1024 x 1024, so that every figure can be checked by eye.
SQUARE = a_model(
    num_hidden_layers=1,
    hidden_size=1024,
    intermediate_size=1024,
    num_attention_heads=8,
    num_key_value_heads=8,
    vocab_size=2048,
)
MATRIX = 1024 * 1024
TABLES = 2 * 2048 * 1024
NORMS = 3 * 1024


def test_weights_in_16_bits_take_two_bytes_each() -> None:
    assert weights_bytes(SQUARE, scheme_of(a_tuning("lora"))) == 2 * (7 * MATRIX + TABLES + NORMS)
    assert SQUARE.num_parameters == 7 * MATRIX + TABLES + NORMS


def test_nf4_packs_two_weights_a_byte_and_preparation_makes_the_rest_float32() -> None:
    prepared = scheme_of(a_tuning("qlora"))
    assert weights_bytes(SQUARE, prepared) == 7 * MATRIX // 2 + 4 * (TABLES + NORMS)
    bare = scheme_of(a_tuning("qlora", method_kbit_prepare=False))
    assert weights_bytes(SQUARE, bare) == 7 * MATRIX // 2 + 2 * (TABLES + NORMS)


def test_nf4_without_double_quantization_has_a_float32_scale_for_64_weights() -> None:
    scheme = scheme_of(a_tuning("qlora", method_double_quant=False))
    scales, code = MATRIX // 64 * 4, 512  # 16 float32 values are 64 bytes, which take a whole unit
    assert quantization_state_bytes(SQUARE, scheme) == 7 * (scales + code)


def test_double_quantization_keeps_a_byte_a_scale_and_scales_of_scales() -> None:
    scheme = scheme_of(a_tuning("qlora"))
    num_scales = MATRIX // 64  # 16,384
    nested = num_scales // 256 * 4  # 256 bytes, so a whole unit of 512
    assert nested == 256
    # One byte a scale, nested scales, both codes (16 and 256 float32 values), the offset.
    assert quantization_state_bytes(SQUARE, scheme) == 7 * (num_scales + 512 + 512 + 1024 + 512)


def test_8_bit_matrices_have_a_float32_scale_a_row() -> None:
    scheme = scheme_of(a_tuning("int8-lora"))
    assert quantization_state_bytes(SQUARE, scheme) == 7 * 1024 * 4
    assert weights_bytes(SQUARE, scheme) == 7 * MATRIX + 4 * (TABLES + NORMS)


def test_an_adapter_has_rank_times_both_widths_in_float32() -> None:
    scheme = scheme_of(a_tuning("lora", method_rank=8))
    assert adapters_bytes(SQUARE, scheme) == 7 * 8 * (1024 + 1024) * 4


def test_full_training_trains_every_parameter_once() -> None:
    for architecture in (SQUARE, a_model(tie_word_embeddings=True), a_model(model_type="qwen2")):
        trained = trained_tensors(architecture, scheme_of(a_tuning("full")))
        assert sum(tensor.num_elements * count for tensor, count in trained) == architecture.num_parameters


def test_lora_trains_its_adapters_only() -> None:
    scheme = scheme_of(a_tuning("lora"))
    trained = sum(tensor.bytes * count for tensor, count in trained_tensors(SQUARE, scheme))
    assert trained == adapters_bytes(SQUARE, scheme)


def test_loading_holds_the_table_that_is_cast_twice() -> None:
    assert loading_bytes(SQUARE, scheme_of(a_tuning("qlora"))) == 2048 * 1024 * 2
    assert loading_bytes(SQUARE, scheme_of(a_tuning("full"))) == 0


def _one_record_a_model_and_method(study: str) -> list[Record]:
    """The first record of each that ran, of a study of virtual cards."""
    found: dict[tuple[str, str], Record] = {}
    with gzip.open(STUDIES / study / "records.jsonl.gz", "rt") as lines:
        for line in lines:
            values = json.loads(line)
            key = (values["spec"]["model"], values["spec"]["method"]["kind"])
            if key not in found and values["outcome"]["status"] == "ok":
                found[key] = Record.model_validate(values)
    return list(found.values())


# Names of the terms, and of the record's components.
COMPONENTS = {
    "weights": "weights_bytes",
    "quantization_state": "quantization_state_bytes",
    "adapters": "adapter_bytes",
    "optimizer_state": "optimizer_bytes",
    "buffers": "buffers_bytes",
}


@pytest.mark.parametrize("study", ["a100-80gb", "rtx-4090"])
def test_resident_terms_are_the_components_of_stored_records(study: str) -> None:
    """Never more, and less only by what the allocator gives beyond a request: blocks it does not split."""
    records = _one_record_a_model_and_method(study)
    followed = 0
    for record in records:
        architecture = _architecture(record)
        if PEAKVRAM.refusal(record.spec, architecture) is not None:
            continue
        followed += 1
        assert record.components is not None
        step = PEAKVRAM.evaluate(record.spec, architecture, shape_of(record.spec)).instants[-1]
        predicted = {name: int(str(step.terms[name])) for name in COMPONENTS}
        counted = {name: int(getattr(record.components, COMPONENTS[name])) for name in COMPONENTS}
        assert all(predicted[name] <= counted[name] for name in COMPONENTS), (record.spec, predicted, counted)
        assert sum(predicted.values()) == pytest.approx(sum(counted.values()), rel=0.02), record.spec
    assert followed >= 20


def _architecture(record: Record) -> Architecture:
    return architecture_of(record.spec.model)
