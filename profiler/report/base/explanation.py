"""What is said of an explained run, whatever shows it: the instant, its lines, and what changes do."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from profiler.records.schema import OutcomeStatus, PhaseName
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from profiler.explain.effects import Effect
    from profiler.explain.explanation import ExplainedInstant, Explanation
    from profiler.records.schema import PhasePlace, Record


def kind_of(record: Record) -> str:
    """Whether a run was on a virtual card or a real one."""
    return "virtual" if record.device is not None and record.device.kind == "virtual" else "real"


def instant_lines(instant: ExplainedInstant, kind: str) -> Iterator[str]:
    """Which instant it is, in a few lines."""
    where = phase_label(instant.place)
    where += f", at {instant.module}" if instant.module else ""
    held = f"{format_bytes(instant.allocated_bytes)} ({instant.allocated_bytes:,} B)"
    if instant.is_failure:
        asked = format_bytes(instant.requested_bytes or 0)
        yield f"Out of memory ({kind} card) in {where}: {held} allocated, and {asked} more asked for"
    else:
        yield f"Peak ({kind} card): {held} allocated, in {where}"
    yield f"  reached by {instant.line}"
    if instant.caller and instant.caller != instant.line:
        yield f"  called from {instant.caller}"


def when_of(instant: ExplainedInstant) -> str:
    """Which moment is explained, in a heading."""
    return "when memory ran out" if instant.is_failure else "at the peak"


def phase_label(place: PhasePlace) -> str:
    """A phase, and the step it is of."""
    return f"optimizer {place.of_step}" if place.phase is PhaseName.STEP else place.of_step


def share_of(part_bytes: int, total_bytes: int) -> str:
    """A share in per cent."""
    return f"{part_bytes / total_bytes:.1%}" if total_bytes else "0.0%"


def lines_by_size(explanation: Explanation) -> list[tuple[str, int, int, str]]:
    """Every line with its bytes, its number of blocks and its components, the largest first."""
    sizes: dict[str, int] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    components: dict[str, dict[str, None]] = defaultdict(dict)
    for component in explanation.components:
        for line in (line for group in component.groups for line in group.lines):
            sizes[line.line] += line.size_bytes
            counts[line.line] += line.num_blocks
            components[line.line][component.name] = None
    ranked = sorted(sizes, key=lambda line: -sizes[line])
    return [(line, sizes[line], counts[line], ", ".join(components[line])) for line in ranked]


def effects_title(record: Record) -> str:
    """What stands above the changes."""
    return f"What would lower it: each change run by itself, on the same {kind_of(record)} card"


def worth_telling(effects: Iterable[Effect], record: Record) -> list[Effect]:
    """The changes that lower the peak; of a job that ran out of memory all that were tried."""
    is_failed = record.outcome.status is OutcomeStatus.OOM
    return [effect for effect in effects if is_failed or effect.saved_bytes > 0]


def effect_text(effect: Effect, record: Record) -> str:
    """What a change does."""
    if effect.status is not OutcomeStatus.OK:
        return "runs out of memory too"
    if record.outcome.status is OutcomeStatus.OOM or record.peak is None:
        return "fits"
    is_allocated = record.peak.allocated_bytes - effect.allocated_bytes == effect.saved_bytes
    return f"{format_bytes(effect.saved_bytes)} less{'' if is_allocated else ' reserved'}"
