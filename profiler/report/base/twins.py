"""What is said of a real card and its virtual twin, whatever shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.jobs.settings import method_label, settings_of, unusual
from profiler.records.history import EventKind
from profiler.records.store import short_model
from profiler.report.base.text import UNKNOWN, left, right
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Device, Peak
    from profiler.verify.events import FirstDifference, ShownEvent
    from profiler.verify.folder import TwinComparison
    from profiler.verify.parting import FigureDifference, JobComparison

TWIN_HEADINGS = left("job", "result") | right(
    "real allocated",
    "virtual allocated",
    "real reserved",
    "virtual reserved",
    "real events",
    "virtual events",
)
_MAX_FIGURES = 12
_MAX_PHASES = 8
_MAX_LINES = 4


def job_label(spec: JobSpec) -> str:
    """One short line that tells a job from the others of its list."""
    settings = settings_of(spec)
    named = ["model", "batch_size", "seq_len", "steps", "gpu", "gpu_memory_bytes"]
    named += [key for key in settings if key.startswith("method.")]
    parts = [short_model(spec.model), method_label(settings), f"batch {spec.batch_size} x {spec.seq_len}"]
    return ", ".join([*parts, *unusual(settings, besides=named)])


def card_lines(comparison: TwinComparison) -> Iterator[str]:
    """The card, its twin, and what the card says otherwise than the catalogue."""
    yield f"Real: {_describe(comparison.card)}"
    yield f"Virtual twin: {_describe(comparison.twin)}; {comparison.twin.reason}"
    if comparison.catalogue_figures:
        figures = (
            f"{differing.figure} {differing.card:,}, catalogue {_number(differing.catalogue)}"
            for differing in comparison.catalogue_figures
        )
        yield f"The card says otherwise than the catalogue: {'; '.join(figures)}"


def _describe(device: Device) -> str:
    size = f"{device.total_bytes:,} B"
    return f"{device.name}, {size}, compute capability {device.compute_capability}, {device.num_sms} SMs"


def twin_cells(job: JobComparison) -> list[str]:
    """A job in the columns of `TWIN_HEADINGS`."""
    cells = [job_label(job.spec), f"{job.verdict}: {job.reason}" if job.reason else str(job.verdict)]
    for name in ("allocated_bytes", "reserved_bytes"):
        cells += [_peak(job.real_peak, name), _peak(job.virtual_peak, name)]
    return [*cells, _number(job.num_events_real), _number(job.num_events_virtual)]


def _number(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _peak(peak: Peak | None, name: str) -> str:
    return UNKNOWN if peak is None else format_bytes(getattr(peak, name))


def detail_lines(job: JobComparison) -> Iterator[str]:
    """Everything that differs in a job, in bytes, and what to bear in mind; nothing where it is identical."""
    yield from (f"note: {note}" for note in job.notes)
    yield from _figure_lines(job.figures)
    if job.first_difference is not None:
        yield from _difference_lines(job.first_difference)
    for phase in job.unlike_phases[:_MAX_PHASES]:
        how = "the same in another order" if phase.is_reordered else "not the same"
        counts = f"{phase.num_events_real:,} events real, {phase.num_events_virtual:,} virtual"
        yield f"{phase.place}: {counts}, {how}"
    if len(job.unlike_phases) > _MAX_PHASES:
        yield f"and {len(job.unlike_phases) - _MAX_PHASES} more phases"


def _figure_lines(figures: Sequence[FigureDifference]) -> Iterator[str]:
    for differing in figures[:_MAX_FIGURES]:
        figure = differing.figure.removesuffix("_bytes").replace("_", " ")
        where = f"{differing.place}: {figure}"
        if differing.real is None or differing.virtual is None:
            side = "real card" if differing.virtual is None else "virtual twin"
            yield f"{where}: on the {side} alone"
        else:
            gap = differing.virtual - differing.real
            yield f"{where}: {differing.real:,} real, {differing.virtual:,} virtual ({gap:+,})"
    if len(figures) > _MAX_FIGURES:
        yield f"and {len(figures) - _MAX_FIGURES} more figures"


def _difference_lines(first: FirstDifference) -> Iterator[str]:
    where = f"{first.index_in_phase:,} of {first.place}"
    yield f"first event that differs: {first.index:,} of the run, {where} (from 0)"
    for shared in first.before:
        yield from _event_lines("both", shared)
    for side, event, after in (
        ("real", first.real, first.real_after),
        ("virtual", first.virtual, first.virtual_after),
    ):
        if event is None:
            yield f"> {side:<8}nothing more in this phase"
            continue
        yield from _event_lines(side, event, mark=">", num_lines=_MAX_LINES)
        for following in after:
            yield from _event_lines(side, following)


def _event_lines(side: str, event: ShownEvent, *, mark: str = " ", num_lines: int = 1) -> Iterator[str]:
    lines = event.stack[:num_lines] or ("outside Python, as autograd's backward pass is",)
    what = f"{event.kind} {_what(event)}".rstrip()
    yield f"{mark} {side:<8}{event.index:>8}  {what:<28}{event.size_bytes:>16,} B  {lines[0]}"
    for line in lines[1:]:
        yield f"{'':<68}{line}"


def _what(event: ShownEvent) -> str:
    if event.number is None:
        return ""
    is_block = event.kind in (EventKind.ALLOC, EventKind.FREE, EventKind.FREE_COMPLETED)
    return f"of {'block' if is_block else 'segment'} {event.number}"
