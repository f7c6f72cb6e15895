"""Which formulas of others are tables of coefficients: data, read from `configs/formulas.yaml`."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from profiler.formula.breakdown import Formula
from profiler.formula.others.facts import (
    ADAM_OPTIMIZERS,
    BITS_8_OPTIMIZERS,
    GB,
    at_peak,
    find_class,
    first_of,
    num_trained_parameters,
    only,
    only_dense,
    only_optimizers,
    only_sizes,
    weight_bits,
)
from profiler.jobs.job import METHODS
from profiler.jobs.load import read_yaml_as
from profiler.resources import configs_dir
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Breakdown, Quantity, Shape
    from profiler.formula.others.facts import Refusal
    from profiler.jobs.choices import Optimizer
    from profiler.jobs.job import JobSpec


def _check_method(kind: str) -> str:
    if kind not in METHODS:
        raise ValueError(f"{kind!r} is no method")
    return kind


Text: TypeAlias = Annotated[str, Field(min_length=1)]
Number: TypeAlias = Annotated[Fraction, Field(ge=0), BeforeValidator(lambda value: Fraction(str(value)))]
"""An exact number: 2, 0.5 or 9/14."""
MethodKind: TypeAlias = Annotated[str, AfterValidator(_check_method)]
OptimizerClass: TypeAlias = Literal["adam", "8-bit"]
_OPTIMIZERS: Mapping[OptimizerClass, tuple[Optimizer, ...]] = {
    "adam": ADAM_OPTIMIZERS,
    "8-bit": BITS_8_OPTIMIZERS,
}


class TermUnit(StrEnum):
    """What a coefficient is counted in.

    Tokens are those of the batch, generated ones included, and a GB is 10^9 bytes. The share is of the terms
    before.
    """

    GB = "GB"
    GB_A_ROW = "GB a row of the batch"
    GB_A_TOKEN = "GB a token"
    BYTES_A_PARAMETER = "bytes a parameter"
    BYTES_A_TRAINED_PARAMETER = "bytes a trained parameter"
    BYTES_A_TOKEN_LAYER_AND_WIDTH = "bytes a token, layer and element of the hidden width"
    SHARE = "share of the terms before"


class Condition(Value):
    """Which jobs are meant; what is left out may be anything.

    Attributes:
        method: kinds of methods.
        weight_bits: bits that the job's precision and quantization keep a weight in.
        optimizer: a class of optimizers.
        checkpointing: whether blocks are recomputed.
    """

    method: tuple[MethodKind, ...] = ()
    weight_bits: int | None = None
    optimizer: OptimizerClass | None = None
    checkpointing: bool | None = None

    def holds_for(self, job: JobSpec) -> bool:
        """Whether a job is meant."""
        return (
            (not self.method or job.method.kind in self.method)
            and self.weight_bits in {None, weight_bits(job)}
            and (self.optimizer is None or job.optimizer in _OPTIMIZERS[self.optimizer])
            and self.checkpointing in {None, job.gradient_checkpointing.enabled}
        )


class Coefficient(Condition):
    """How much a term is in the jobs that are meant; in a table of sizes, by billions of parameters."""

    value: Number | dict[int, Number]


class Term(Value):
    """One term: the first coefficient that is meant for a job; no term where there is none.

    Attributes:
        about: what it is, for a reader.
        unit: what its coefficients are counted in.
        coefficients: in the order they are tried.
    """

    about: Text
    unit: TermUnit
    coefficients: Annotated[tuple[Coefficient, ...], Field(min_length=1)]

    def coefficient_for(self, job: JobSpec) -> Fraction | dict[int, Fraction] | None:
        """How much the term is in a job; None where the job has no such term."""
        return next((each.value for each in self.coefficients if each.holds_for(job)), None)


class Exclusion(Condition):
    """Jobs that a formula leaves out, and why."""

    reason: Text


class Table(Value):
    """A formula, its fields as those of `Formula`, and what it speaks of.

    Attributes:
        id: its name on the command line.
        title: what it is.
        place: where in the source it stands; empty for a source that is this table alone.
        predicts: what its author means by its figure.
        methods: the kinds of methods it speaks of.
        sizes: the classes of models it speaks of, in billions of parameters; empty for all.
        is_dense_only: whether mixtures of experts are left out.
        optimizers: the classes of optimizers it speaks of; empty for all.
        excludes: what else it leaves out.
        terms: its terms, in the order they are shown and added.
    """

    id: Text
    title: Text
    place: str = ""
    predicts: Text
    methods: Annotated[tuple[MethodKind, ...], Field(min_length=1)]
    sizes: tuple[int, ...] = ()
    is_dense_only: bool = False
    optimizers: tuple[OptimizerClass, ...] = ()
    excludes: tuple[Exclusion, ...] = ()
    terms: Annotated[dict[str, Term], Field(min_length=1)]


class Publication(Value):
    """One publication: what it is called, what there is to say of it, its formulas."""

    title: Text
    about: Text
    formulas: Annotated[tuple[Table, ...], Field(min_length=1)]


class Publications(Value):
    """The whole file, in the order formulas are shown."""

    publications: tuple[Publication, ...]


@cache
def load_tables(path: Path | None = None) -> tuple[Formula, ...]:
    """The formulas of a file like `configs/formulas.yaml`, which is the default.

    Raises:
        ConfigError: if the file is not understood; it names the place.
    """
    file = read_yaml_as(path or configs_dir() / "formulas.yaml", Publications)
    return tuple(
        _formula(table, publication) for publication in file.publications for table in publication.formulas
    )


def _formula(table: Table, publication: Publication) -> Formula:
    return Formula(
        id=table.id,
        title=table.title,
        source=f"{publication.title}, {table.place}" if table.place else publication.title,
        predicts=table.predicts,
        terms={name: term.about for name, term in table.terms.items()},
        evaluate=partial(_evaluate, table),
        refusal=_refusal_of(table),
    )


def _evaluate(table: Table, job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    terms: dict[str, Quantity] = {}
    for name, term in table.terms.items():
        coefficient = term.coefficient_for(job)
        if isinstance(coefficient, dict):
            coefficient = find_class(architecture, coefficient)
            assert coefficient is not None, "the refusal comes first"
        if coefficient is not None:
            is_share = term.unit is TermUnit.SHARE
            whole = sum(terms.values()) if is_share else _WHOLES[term.unit](job, architecture, shape)
            terms[name] = coefficient.numerator * whole // coefficient.denominator
    return at_peak(terms)


def _tokens(job: JobSpec, shape: Shape) -> Quantity:
    """Of the batch at the end of the job, when a cache is largest."""
    return shape.batch_size * (shape.seq_len + getattr(job.method, "new_tokens", 0))


_WHOLES: Mapping[TermUnit, Callable[[JobSpec, Architecture, Shape], Quantity]] = {
    TermUnit.GB: lambda _, __, ___: GB,
    TermUnit.GB_A_ROW: lambda _, __, shape: GB * shape.batch_size,
    TermUnit.GB_A_TOKEN: lambda job, _, shape: GB * _tokens(job, shape),
    TermUnit.BYTES_A_PARAMETER: lambda _, architecture, __: architecture.num_parameters,
    TermUnit.BYTES_A_TRAINED_PARAMETER: lambda job, architecture, _: num_trained_parameters(
        architecture, job.method
    ),
    TermUnit.BYTES_A_TOKEN_LAYER_AND_WIDTH: lambda job, architecture, shape: (
        _tokens(job, shape) * architecture.num_layers * architecture.hidden_size
    ),
}
"""The bytes that a coefficient of 1 stands for."""


def _refusal_of(table: Table) -> Refusal:
    optimizers = [optimizer for each in table.optimizers for optimizer in _OPTIMIZERS[each]]
    refusals = [only(*table.methods)]
    refusals += [only_dense] if table.is_dense_only else []
    refusals += [only_optimizers(*optimizers)] if optimizers else []
    refusals += [only_sizes(*table.sizes)] if table.sizes else []
    return first_of(*refusals, partial(_refuse_excluded, table), partial(_refuse_size, table))


def _refuse_excluded(table: Table, job: JobSpec, _: Architecture) -> str | None:
    return next((each.reason for each in table.excludes if each.holds_for(job)), None)


def _refuse_size(table: Table, job: JobSpec, architecture: Architecture) -> str | None:
    """A table of sizes may have others for other methods."""
    for term in table.terms.values():
        sizes = term.coefficient_for(job)
        if isinstance(sizes, dict) and find_class(architecture, sizes) is None:
            names = ", ".join(f"{size}B" for size in sizes)
            return (
                f"its table has {job.method.kind} of {names}, not of {architecture.num_parameters / GB:.1f}B"
            )
    return None
