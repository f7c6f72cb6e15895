"""What an estimate looks like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from profiler.estimate.estimate import Estimate, Fits, Refusal, room_text, single
from profiler.estimate.factors import conditions_of, most_specific
from profiler.estimate.miss import Miss, miss_of
from profiler.formula.derived.formula import DERIVED
from profiler.records.schema import Peak
from profiler.report.base.describe import describe_job
from profiler.report.base.text import (
    UNKNOWN,
    left,
    literal,
    plain_table,
    right,
    show_blocks,
    size,
    titled,
    titled_table,
)
from profiler.report.base.verdict import verdict_line as record_verdict
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, Group

    from profiler.estimate.apply import Band
    from profiler.estimate.card import Card
    from profiler.estimate.estimate import Estimated, Verdict
    from profiler.estimate.factors import Factor, FactorFile, FittedOn
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

_STYLES = {Fits.YES: "bold green", Fits.LIKELY: "green", Fits.UNLIKELY: "yellow", Fits.NO: "bold yellow"}
_SAYS = {
    Fits.YES: "fits",
    Fits.LIKELY: "likely fits",
    Fits.UNLIKELY: "unlikely to fit",
    Fits.NO: "does not fit",
}


def show_estimate(console: Console, estimate: Estimate, *, factors: FactorFile | None) -> None:
    """Prints an estimate: the job, its peak, the terms of the instant that wins, the others, the verdict."""
    own = factors.formulas.get(estimate.formula.id) if factors else None
    used = most_specific(own.allocated.factors, conditions_of(estimate.spec)).factors if own else None
    title = estimate.formula.title.removeprefix(f"{estimate.formula.id}: ")
    formula = literal(f"formula {estimate.formula.id}: {title}")
    verdict = literal(verdict_line(estimate), _STYLES[estimate.verdict.fits])
    show_blocks(
        console,
        [*_heading(estimate.spec, estimate.card), formula],
        [literal(_headline(estimate), "bold")],
        terms_table(estimate, factors=used),
        instants_table(estimate) if len(estimate.breakdown.instants) > 1 else (),
        [
            literal(_origin(estimate, factors)),
            *(literal(f"note: {note}") for note in estimate.notes),
            verdict,
        ],
    )


def show_comparison(
    console: Console, estimates: Sequence[Estimated], *, card: Card, factors: FactorFile | None
) -> None:
    """Prints what every formula says of one job, side by side."""
    refused = [estimate for estimate in estimates if isinstance(estimate, Refusal)]
    show_blocks(
        console,
        _heading(estimates[0].spec, card),
        comparison_table(estimates),
        refusals_table(refused) if refused else (),
        [literal(fitted_text(factors.fitted_on) if factors else "no correction factors were used")],
    )


def terms_table(estimate: Estimate, *, factors: Mapping[str, Factor] | None) -> Group:
    """One row a term of the instant that wins, largest first; without factors its own bytes alone."""
    corrected = estimate.corrected.breakdown.peak
    own = next(instant for instant in estimate.breakdown.instants if instant.name == corrected.name)
    columns = left("term") | right("formula")
    table = plain_table(columns | (right("factor", "corrected") if factors else {}) | right("share"))
    total = single(corrected.total_bytes)
    for name, quantity in sorted(corrected.terms.items(), key=lambda item: -single(item[1])):
        count, own_count = single(quantity), single(own.terms[name])
        if count or own_count:
            middle = [_factor(factors.get(name)), size(count)] if factors else []
            table.add_row(literal(name), size(own_count), *middle, _share(count, total))
    middle = [Text(""), size(total)] if factors else []
    table.add_row(Text("total"), size(single(own.total_bytes)), *middle, _share(total, total), style="bold")
    return titled(f"Terms at the peak: {corrected.name}", table)


def instants_table(estimate: Estimate) -> Group:
    """One row an instant, in the order of the run, with the one that wins marked."""
    is_corrected = estimate.corrected.breakdown is not estimate.breakdown
    table = plain_table(left("instant") | right("formula") | (right("corrected") if is_corrected else {}))
    peak = estimate.corrected.breakdown.peak
    for own, corrected in zip(
        estimate.breakdown.instants, estimate.corrected.breakdown.instants, strict=True
    ):
        cells = [size(single(own.total_bytes))]
        if is_corrected:
            cells.append(size(single(corrected.total_bytes)))
        is_peak = corrected.name == peak.name
        table.add_row(
            literal(own.name), *cells, Text("<- peak" if is_peak else ""), style="bold" if is_peak else ""
        )
    return titled("Instants", table)


def comparison_table(estimates: Iterable[Estimated]) -> Group:
    """One row a formula that speaks of the job, with its own figure and the corrected one."""
    columns = ("own figure", "corrected", "90 % interval", "reserved", "device")
    table = plain_table(left("formula") | dict.fromkeys(columns, "right") | left("fits"))
    for estimate in estimates:
        if isinstance(estimate, Estimate):
            corrected = estimate.corrected
            is_corrected = corrected.allocated.low_bytes is not None
            table.add_row(
                literal(estimate.formula.id),
                size(single(estimate.breakdown.peak_bytes)),
                size(single(corrected.allocated.value_bytes)) if is_corrected else Text(UNKNOWN),
                literal(interval(corrected.allocated) or UNKNOWN),
                _band(corrected.reserved),
                _band(corrected.device_used),
                literal(estimate.verdict.fits),
            )
    return titled("Peak by formula", table)


def refusals_table(refusals: Iterable[Refusal]) -> Group:
    """One row a formula that says nothing of the job, and why."""
    rows = ([refusal.formula.id, refusal.reason] for refusal in refusals)
    columns = left("formula", "says nothing because")
    return titled_table("Formulas that do not speak of it", columns, rows)


def verdict_line(estimate: Estimate) -> str:
    """One line: what the card has to give, what it has, and whether that is enough."""
    card, device = estimate.card, estimate.corrected.device_used
    where = f"{format_bytes(card.total_bytes)} ({card.name})"
    figure = f"device {format_bytes(single(device.value_bytes))} of {where}" if device else where
    return f"{figure}: {fits_text(estimate.verdict)}"


def fits_text(verdict: Verdict) -> str:
    """Whether a job fits, by how much, and what that rests on."""
    return f"{_SAYS[verdict.fits]}, {room_text(verdict.room_bytes)} ({verdict.reason})"


def miss_text(estimate: Estimate, record: Record) -> str | None:
    """Where a run says otherwise than its job's estimate, and which of them counts; None if it does not."""
    match miss_of(estimate, record), record.peak:
        case Miss.VERDICT, _:
            return (
                "the estimate of this job missed, the run counts. "
                f"Estimate: {fits_text(estimate.verdict)}. Run: {record_verdict(record)}"
            )
        case Miss.PEAK, Peak(allocated_bytes=run_bytes):
            if estimate.formula.id == DERIVED.id:
                off_bytes = run_bytes - single(estimate.corrected.allocated.value_bytes)
                return (
                    f"the derived estimate of this job missed, the run counts: it took {off_bytes:+,} bytes. "
                    "Derive the formula anew, or tell us"
                )
            band = interval(estimate.corrected.allocated)
            return (
                f"the estimate of this job, {band} allocated, missed; the run counts: "
                f"{format_bytes(run_bytes)}. Such an interval is meant to hold 9 jobs of 10"
            )
        case _:
            return None


def interval(band: Band) -> str:
    """The ends of a figure's interval, such as `12.51 to 12.90 GiB`; equal ones in bytes; else empty."""
    if band.low_bytes is None or band.high_bytes is None:
        return ""
    if band.low_bytes == band.high_bytes:
        return f"{single(band.value_bytes):,} B"
    low, high = format_bytes(single(band.low_bytes)), format_bytes(single(band.high_bytes))
    is_same_unit = low.split()[1] == high.split()[1]
    return f"{low.split()[0] if is_same_unit else low} to {high}"


def fitted_text(fitted: FittedOn) -> str:
    """What factors were fitted on, in one line; figures of a virtual card are called so."""
    kinds = " and ".join(fitted.device_kinds)
    versions = ", ".join(
        f"{name} {' or '.join(fitted.versions[name])}" for name in ("torch",) if name in fitted.versions
    )
    return (
        f"factors fitted on {fitted.num_records:,} {kinds} records of {len(fitted.models)} models "
        f"on {', '.join(fitted.cards)}" + (f" ({versions})" if versions else "")
    )


def _heading(spec: JobSpec, card: Card) -> Iterator[Text]:
    yield literal(describe_job(spec), "bold")
    yield literal(f"judged against {card.name} ({card.id}), {format_bytes(card.total_bytes)}: {card.reason}")
    yield Text("ESTIMATE: formulas and arithmetic; nothing was run", style="bold magenta")


def _headline(estimate: Estimate) -> str:
    corrected = estimate.corrected
    if corrected.allocated.low_bytes is None:
        return f"peak {_figure(corrected.allocated)}: {estimate.formula.predicts}"
    name = "between" if estimate.formula.id == DERIVED.id else "90 % interval"
    parts = [f"peak allocated {_figure(corrected.allocated, name=name)}"]
    if corrected.reserved is not None:
        parts.append(f"reserved {_figure(corrected.reserved, name=name)}")
    if corrected.device_used is not None:
        parts.append(f"device {_figure(corrected.device_used, name=name)}")
    return "\n".join(parts)


def _figure(band: Band, *, name: str = "90 % interval") -> str:
    ends = interval(band)
    value = format_bytes(single(band.value_bytes))
    if not ends:
        return value
    if band.low_bytes == band.high_bytes:
        return f"{value} ({ends})"
    return f"{value} ({name} {ends})"


def _origin(estimate: Estimate, factors: FactorFile | None) -> str:
    if estimate.formula.id == DERIVED.id:
        return "derived from runs on a virtual card: what one of this batch would take, replayed"
    if factors is None:
        return "the bare formula: no correction factors, no interval"
    if estimate.formula.id not in factors.formulas:
        return f"the bare formula: the factor file has no factors for {estimate.formula.id}"
    return fitted_text(factors.fitted_on)


def _factor(factor: Factor | None) -> Text:
    if factor is None:
        return Text(UNKNOWN)
    return Text(f"{factor.value:.3f}") if factor.status == "fitted" else Text("1 (not fitted)")


def _share(count: int, total: int) -> Text:
    return Text(f"{count / total:.1%}" if total else UNKNOWN)


def _band(band: Band | None) -> Text:
    return size(single(band.value_bytes) if band else None)
