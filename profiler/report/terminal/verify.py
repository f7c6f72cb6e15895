"""How a real card and its virtual twin compare, on a terminal and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.jobs.settings import method_label, settings_of, unusual
from profiler.records.history import EventKind
from profiler.records.store import short_model
from profiler.report.base.markdown import escape, table
from profiler.report.base.text import UNKNOWN, literal, plain_table, titled
from profiler.units import format_bytes
from profiler.verify.events import label
from profiler.verify.parting import JobComparison, Likeness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Device, Peak
    from profiler.verify.events import FirstDifference, ShownEvent
    from profiler.verify.folder import TwinComparison
    from profiler.verify.parting import FigureDifference

_STYLES = {Likeness.IDENTICAL: "bold green", Likeness.DIFFERS: "bold red", Likeness.NOT_COMPARED: "bold red"}
_MAX_FIGURES = 12
_MAX_PHASES = 8
_MAX_LINES = 4
_HEADINGS = {
    "job": "left",
    "result": "left",
    "real allocated": "right",
    "virtual allocated": "right",
    "real reserved": "right",
    "virtual reserved": "right",
    "real events": "right",
    "virtual events": "right",
}

_FILES = """\
## Files

- `real/records`, `real/histories`: of the real card.
- `virtual/records`, `virtual/histories`: of its virtual twin.
- `differences.json`: what this page says, for programs.
- A history (`*.jsonl.gz`) has a line a phase: the allocator's events in order, with their Python lines.

Times in these records are not those of an ordinary run: the history was recorded beside.
"""


def show_comparison(console: Console, comparison: TwinComparison) -> None:
    """Prints the two cards, a row a job, and where each job that is not identical parts."""
    for line in _card_lines(comparison):
        console.print(literal(line), soft_wrap=True)
    console.print()
    rows = plain_table(_HEADINGS)
    for column in rows.columns:
        column.overflow = "fold"  # on a narrow terminal nothing is cut off
    for job in comparison.jobs:
        cells = [literal(cell) for cell in _cells(job)]
        cells[1].stylize(_STYLES.get(job.verdict, "bold yellow"))
        rows.add_row(*cells)
    console.print(titled("Peaks, real and virtual", rows))
    for job in comparison.jobs:
        if lines := list(detail_lines(job)):
            console.print()
            console.print(literal(job_label(job.spec), "bold"), soft_wrap=True)
            for line in lines:
                console.print(literal(line), soft_wrap=True)


def comparison_readme(comparison: TwinComparison) -> str:
    """The page of a contributed folder."""
    card = comparison.card
    parts = [
        f"# {escape(card.name)} and its virtual twin\n",
        *(f"{escape(t)}.\n" for t in _card_lines(comparison)),
    ]
    if comparison.environment is not None:
        environment = comparison.environment
        names = ("torch", "cuda", "transformers", "peft", "bitsandbytes", "driver")
        versions = (f"{name} {getattr(environment, name)}" for name in names if getattr(environment, name))
        parts.append(f"{escape(', '.join(versions))}; {escape(environment.platform)}.\n")
    parts.append(f"{_count(comparison.jobs)}.\n")
    cells = ([escape(cell) for cell in _cells(job)] for job in comparison.jobs)
    parts.append(table(list(_HEADINGS), cells, num_left=2))
    for number, job in enumerate(comparison.jobs, 1):
        if lines := list(detail_lines(job)):
            body = "\n".join(f"    {literal(line).plain}" for line in lines)
            parts.append(f"## Job {number}: {escape(job_label(job.spec))}\n\n{body}\n")
    return "\n".join([*parts, _FILES])


def job_label(spec: JobSpec) -> str:
    """One short line that tells a job from the others of its list."""
    settings = settings_of(spec)
    told = ["model", "batch_size", "seq_len", "steps", "gpu", "gpu_memory_bytes"]
    told += [key for key in settings if key.startswith("method.")]
    parts = [short_model(spec.model), method_label(settings), f"batch {spec.batch_size} x {spec.seq_len}"]
    return ", ".join([*parts, *unusual(settings, besides=told)])


def _card_lines(comparison: TwinComparison) -> Iterator[str]:
    yield f"Real: {_describe(comparison.card)}"
    yield f"Virtual twin: {_describe(comparison.twin)}; {comparison.twin.reason}"
    if comparison.catalogue_figures:
        told = (
            f"{found.figure} {found.card:,}, catalogue {_number(found.catalogue)}"
            for found in comparison.catalogue_figures
        )
        yield f"The card says otherwise than the catalogue: {'; '.join(told)}"


def _describe(device: Device) -> str:
    size = f"{device.total_bytes:,} B"
    return f"{device.name}, {size}, compute capability {device.compute_capability}, {device.num_sms} SMs"


def _count(jobs: Sequence[JobComparison]) -> str:
    counts = {verdict: sum(job.verdict is verdict for job in jobs) for verdict in Likeness}
    told = "; ".join(f"{count} with the result '{verdict}'" for verdict, count in counts.items() if count)
    return f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {told}"


def _cells(job: JobComparison) -> list[str]:
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
        yield f"{label(phase.phase, phase.step)}: {counts}, {how}"
    if len(job.unlike_phases) > _MAX_PHASES:
        yield f"and {len(job.unlike_phases) - _MAX_PHASES} more phases"


def _figure_lines(figures: Sequence[FigureDifference]) -> Iterator[str]:
    for found in figures[:_MAX_FIGURES]:
        where = f"{label(found.phase, found.step)}: {found.figure.removesuffix('_bytes').replace('_', ' ')}"
        if found.real is None or found.virtual is None:
            side = "real card" if found.virtual is None else "virtual twin"
            yield f"{where}: on the {side} alone"
        else:
            gap = found.virtual - found.real
            yield f"{where}: {found.real:,} real, {found.virtual:,} virtual ({gap:+,})"
    if len(figures) > _MAX_FIGURES:
        yield f"and {len(figures) - _MAX_FIGURES} more figures"


def _difference_lines(first: FirstDifference) -> Iterator[str]:
    where = f"{first.index_in_phase:,} of {label(first.phase, first.step)}"
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
