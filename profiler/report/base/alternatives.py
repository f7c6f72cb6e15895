"""What is said of a trace replayed under other settings, wherever it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.units import format_bytes

if TYPE_CHECKING:
    from profiler.allocator.alternatives import Alternative, Alternatives, Capacity, Fragments
    from profiler.allocator.snapshots import RecordedFile

DEFAULTS = "torch's defaults"


def conf_text(alloc_conf: str) -> str:
    """A configuration as it is called."""
    return alloc_conf or DEFAULTS


def heading(file: RecordedFile, found: Alternatives) -> list[str]:
    """What was recorded, and what is not known of it."""
    done = found.recorded.replay
    lines = [
        f"{done.num_events:,} events, recorded under {conf_text(found.recorded.alloc_conf)}"
        + (", as is assumed" if file.alloc_conf is None else ""),
        f"replayed as it was: peak allocated {format_bytes(done.allocated_peak_bytes)}, "
        f"reserved {format_bytes(done.reserved_peak_bytes)}",
    ]
    if file.num_before:
        lines.append(
            f"{file.num_before:,} blocks were there before the trace begins; they are taken to lie close "
            "together, so that less is reserved for them than was"
        )
    return lines


def outcome_text(alternative: Alternative, card: Capacity | None) -> str:
    """Whether it fits the card; nothing where none was asked about."""
    failure = alternative.replay.out_of_memory
    if card is None:
        return ""
    if failure is None:
        return "fits"
    return f"out of memory at event {failure.event + 1:,}, for {format_bytes(failure.requested_bytes)}"


def verdict(found: Alternatives, card: Capacity | None) -> str:
    """The setting that reserves least, beside the one that it was recorded under."""
    first, *others = found.tried
    fitting = [one for one in others if one.replay.out_of_memory is None]
    best = min(fitting, key=lambda one: one.replay.reserved_peak_bytes, default=None)
    was = conf_text(first.alloc_conf)
    if first.replay.out_of_memory is not None:
        if best is None:
            return f"does not fit {_room(card)} under any of these settings"
        return f"fits {_room(card)} with {conf_text(best.alloc_conf)}, not with {was}"
    saved_bytes = first.replay.reserved_peak_bytes - best.replay.reserved_peak_bytes if best else 0
    if best is None or saved_bytes <= 0:
        return f"none of these settings reserves less than {was}"
    return f"{conf_text(best.alloc_conf)} reserves least: {format_bytes(saved_bytes)} less than {was}"


def _room(card: Capacity | None) -> str:
    if card is None:
        return ""
    free = format_bytes(card.free_bytes)
    return f"the {card.name} ({free} free for tensors)" if card.name else f"into {free}"


def pool_name(fragments: Fragments) -> str:
    """What a row of fragments is of."""
    return "up to 1 MiB" if fragments.is_small else "above 1 MiB"


def alternatives_tree(file: RecordedFile, found: Alternatives, *, card: Capacity | None) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "recorded": {**_alternative_tree(found.recorded), "is_conf_known": file.alloc_conf is not None},
        "num_blocks_before": file.num_before,
        "card": None
        if card is None
        else {"name": card.name, "total_bytes": card.total_bytes, "free_bytes": card.free_bytes},
        "tried": [_alternative_tree(one) for one in found.tried],
        "fragments": [
            {
                "is_small": one.is_small,
                "num_segments": one.num_segments,
                "reserved_bytes": one.reserved_bytes,
                "free_bytes": one.free_bytes,
                "held_bytes": one.held_bytes,
                "largest_bytes": one.largest_bytes,
            }
            for one in found.fragments
        ],
        "verdict": verdict(found, card),
    }


def _alternative_tree(one: Alternative) -> dict[str, Any]:
    done, failure = one.replay, one.replay.out_of_memory
    return {
        "alloc_conf": one.alloc_conf,
        "num_events": done.num_events,
        "allocated_peak_bytes": done.allocated_peak_bytes,
        "reserved_peak_bytes": done.reserved_peak_bytes,
        "num_alloc_retries": done.num_alloc_retries,
        "out_of_memory": None
        if failure is None
        else {"event": failure.event, "requested_bytes": failure.requested_bytes},
    }
