"""Our formula of each kind of job, as numbers that a browser can add up: what a calculator is given.

The formula itself is not written a second time. `profiler.formula.pieces` follows it through all batch sizes
and lengths; the page gets the polynomials that come out, and the correction factors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from profiler.errors import ConfigError
from profiler.estimate.apply import CONSTANT, CONTEXT
from profiler.estimate.estimate import or_reason
from profiler.estimate.factors import conditions_of, most_specific
from profiler.formula.breakdown import Shape
from profiler.formula.configs import NOT_AT_HAND, architecture_of, is_at_hand
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.formula.pieces import MONOMIALS, NotPiecewiseError, Pieces, follow
from profiler.formula.runnable import check_runnable, max_seq_len
from profiler.hardware.catalogue import load_catalogue
from profiler.jobs.settings import method_label, settings_of
from profiler.records.store import short_model
from profiler.report.base.describe import describe_settings
from profiler.report.page.shell import Numbered
from profiler.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from profiler.estimate.factors import Correction, FactorFile, Where
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity
    from profiler.formula.pieces import Section
    from profiler.jobs.job import JobSpec
    from profiler.report.page.shell import Json

Written: TypeAlias = "int | tuple[tuple[int | float, ...], ...]"
"""A number; or a tuple a polynomial: place and coefficient in turn, those of 0 left out."""

FORMULA: Final = PEAKVRAM
_PROBE = Shape(batch_size=2, seq_len=1024)
"""Any batch shows on which cards the formula says the same."""
_SHAPE_AND_CARD = {"batch_size": 1, "seq_len": 2048, "gpu": "auto", "gpu_memory_bytes": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserFormula:
    """What a page can calculate.

    Attributes:
        data: what the page is given.
        places: where each kind of job stands in it; a kind is all of a job but batch, length and card.
        refused: why the formula says nothing of the other kinds.
    """

    data: Json
    places: Mapping[JobSpec, int]
    refused: Mapping[JobSpec, str]


def browser_formula(jobs: Iterable[JobSpec], factors: FactorFile) -> BrowserFormula:
    """Follows the formula through every kind of job among some jobs."""
    kinds = dict.fromkeys(map(kind_of, jobs))
    cards = _alike_cards(kinds)
    followed: dict[JobSpec, list[tuple[Section, ...]]] = {}
    refused: dict[JobSpec, str] = {}
    for kind in kinds:
        sections = _follow(kind, cards.values())
        if isinstance(sections, str):
            refused[kind] = sections
        else:
            followed[kind] = sections
    return BrowserFormula(
        data=_Writer().write(followed, cards, factors),
        places={kind: place for place, kind in enumerate(followed)},
        refused=refused,
    )


def kind_of(job: JobSpec) -> JobSpec:
    """A job without its batch, its length and its card."""
    return job.model_copy(update=_SHAPE_AND_CARD)


def _follow(kind: JobSpec, cards: Iterable[str]) -> list[tuple[Section, ...]] | str:
    """The formula on every distinct card; or why it says nothing."""
    architecture = _architecture(kind)
    if isinstance(architecture, str):
        return architecture
    distinct = dict.fromkeys(cards)
    try:
        return [follow(FORMULA, kind.model_copy(update={"gpu": card}), architecture) for card in distinct]
    except NotPiecewiseError as error:
        return f"the page cannot calculate it: {error}"


def _architecture(kind: JobSpec) -> Architecture | str:
    """The shapes of a job's model; or why the formula says nothing of the job."""
    if not is_at_hand(kind.model):
        return NOT_AT_HAND
    try:
        architecture = architecture_of(kind.model)
    except ConfigError as error:
        return error.message
    # Whoever reads the page may have other libraries; how long a row may be the page says itself.
    reason = or_reason(partial(check_runnable, is_here=False), kind.model_copy(update={"seq_len": 1}))
    reason = FORMULA.refusal(kind, architecture) if reason is None else reason
    return architecture if reason is None else reason


def _alike_cards(kinds: Iterable[JobSpec]) -> dict[str, str]:
    """Each card of the catalogue, and the first one of which the formula says the same.

    One model of each kind of method is asked.
    """
    probes: dict[str, tuple[JobSpec, Architecture]] = {}
    for kind in kinds:
        if kind.method.kind not in probes:
            architecture = _architecture(kind)
            if not isinstance(architecture, str):
                probes[kind.method.kind] = (kind, architecture)
    said: dict[str, str] = {}
    return {card: said.setdefault(_say(probes.values(), card), card) for card in load_catalogue()}


def _say(probes: Iterable[tuple[JobSpec, Architecture]], card: str) -> str:
    """What the formula says of some jobs on a card."""
    return "".join(
        str(FORMULA.evaluate(kind.model_copy(update={"gpu": card}), architecture, _PROBE))
        for kind, architecture in probes
    )


_PARTS: Final = ("allocated", "reserved", "device")


def _numbered_parts() -> dict[str, Numbered[Any]]:
    return {name: Numbered() for name in _PARTS}


@dataclass(frozen=True, slots=True)
class _Writer:
    """Puts everything into lists, each quantity, name and factor once."""

    terms: Numbered[str] = field(default_factory=Numbered)
    instants: Numbered[str] = field(default_factory=Numbered)
    quantities: Numbered[Written] = field(default_factory=Numbered)
    factors: Mapping[str, Numbered[tuple[tuple[str, float], ...]]] = field(default_factory=_numbered_parts)
    intervals: Mapping[str, Numbered[tuple[float, float]]] = field(default_factory=_numbered_parts)

    def write(
        self,
        followed: Mapping[JobSpec, Sequence[tuple[Section, ...]]],
        cards: Mapping[str, str],
        factors: FactorFile,
    ) -> Json:
        distinct = list(dict.fromkeys(cards.values()))
        kinds = [self._kind(kind, sections, factors) for kind, sections in followed.items()]
        catalogue = load_catalogue()
        return {
            "formula": FORMULA.id,
            "monomials": MONOMIALS,
            "cards": [
                {
                    "id": card,
                    "total_bytes": catalogue[card].total_bytes,
                    "context_bytes": catalogue[card].context_bytes,
                    "alike": distinct.index(alike),
                }
                for card, alike in cards.items()
            ],
            "terms": list(self.terms),
            "explained": [FORMULA.terms.get(term, "") for term in self.terms],
            "instants": list(self.instants),
            "quantities": list(self.quantities),
            "factors": {name: [dict(one) for one in self.factors[name]] for name in _PARTS},
            "intervals": {name: list(self.intervals[name]) for name in _PARTS},
            "gap": {"constant": CONSTANT, "context": CONTEXT, "constant_bytes": MIB},
            "kinds": kinds,
        }

    def _kind(self, kind: JobSpec, sections: Iterable[tuple[Section, ...]], factors: FactorFile) -> Json:
        own, where, settings = factors.formulas.get(FORMULA.id), conditions_of(kind), settings_of(kind)
        parts = (own.allocated, own.reserved_gap, own.device_gap) if own else (None, None, None)
        numbers = [self._numbers(name, part, where) for name, part in zip(_PARTS, parts, strict=True)]
        return {
            "model": short_model(kind.model),
            "method": method_label(settings),
            "settings": describe_settings(settings),
            "max_length": max_seq_len(kind),
            "cards": [[self._section(section) for section in one] for one in sections],
            "factors": [factor for factor, _ in numbers],
            "intervals": [interval for _, interval in numbers],
        }

    def _section(self, section: Section) -> Json:
        """First length, last length, and a list an instant: its name, then each term and its quantity."""
        instants = [
            [self.instants[instant.name], *self._flat(instant.terms)]
            for instant in section.breakdown.instants
        ]
        return [section.min_seq_len, section.max_seq_len, instants]

    def _flat(self, terms: Mapping[str, Quantity]) -> Iterator[int]:
        for term, quantity in terms.items():
            yield self.terms[term]
            yield self.quantities[_written(quantity)]

    def _numbers(self, name: str, part: Correction | None, where: Where) -> tuple[int, int]:
        """Which factors lead to a figure, and which interval it has; -1 where nothing was fitted."""
        if part is None:
            return -1, -1
        factors = most_specific(part.factors, where).factors
        interval = most_specific(part.intervals, where)
        values = tuple((term, factor.value) for term, factor in factors.items())
        return self.factors[name][values], self.intervals[name][interval.low, interval.high]


def _written(quantity: object) -> Written:
    """A quantity as the page is given it."""
    if isinstance(quantity, int):
        return quantity
    assert isinstance(quantity, Pieces), "the formula was followed"
    return tuple(
        tuple(
            number
            for place, coefficient in enumerate(polynomial)
            if coefficient
            for number in (place, int(coefficient) if coefficient.is_integer() else coefficient)
        )
        for polynomial in quantity.polynomials
    )
