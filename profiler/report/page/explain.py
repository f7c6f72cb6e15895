"""The page of an explained run: what was in memory at its peak, over time and by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from profiler.explain.owners import Part
from profiler.records.store import short_model
from profiler.report.base.describe import short_job, versions_of
from profiler.report.base.explanation import (
    effect_text,
    effects_title,
    instant_lines,
    kind_of,
    lines_by_size,
    phase_label,
    share_of,
    when_of,
    worth_telling,
)
from profiler.report.base.text import shown
from profiler.report.base.verdict import device_label, verdict_line
from profiler.report.page.shell import Numbered, fill_page
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.explain.effects import Effect
    from profiler.explain.explanation import Component, Explanation, Group
    from profiler.explain.run import ExplainedRun
    from profiler.explain.timeline import Instant
    from profiler.records.schema import Record
    from profiler.report.page.shell import Json

_COLOURS: Final = {
    **{Part.WEIGHTS: "blue", Part.QUANTIZATION_STATE: "navy", Part.ADAPTERS: "sky", Part.BUFFERS: "dark"},
    **{Part.OPTIMIZER: "orange", Part.GRADIENTS: "red", Part.KV_CACHE: "violet", Part.BATCH: "dark"},
    **{Part.WORKSPACE: "brown", Part.OTHER: "grey", Part.ACTIVATIONS: "green", Part.LOGITS: "gold"},
    **{Part.TEMPORARIES: "pink"},
}
"""The study's page has the same for the same."""
SCRIPTS: Final = ("explain",)
_VERSIONS = ("torch", "cuda", "transformers", "peft", "bitsandbytes", "driver")
_NUM_OPEN = 2
_MAX_GROUPS = 12
_MAX_LINES_OF_A_GROUP = 4
_MAX_LINES = 20
_VIRTUAL_NOTE = (
    "Virtual: PyTorch's own CUDA allocator ran over a card that is not there; nothing here was measured on "
    "hardware."
)


def explanation_page(run: ExplainedRun, effects: tuple[Effect, ...] | None) -> str:
    """The page of a run that has an explanation; the same run gives the same page."""
    assert run.explanation is not None, "the caller has looked"
    return fill_page(
        "explain",
        _data(run, run.explanation),
        scripts=SCRIPTS,
        **_header(run.record, run.explanation),
        **_body(run.record, run.explanation, effects),
    )


def _header(record: Record, explanation: Explanation) -> dict[str, object]:
    device, environment = record.device, record.environment
    is_virtual = kind_of(record) == "virtual"
    return {
        "model": shown(short_model(record.spec.model)),
        "job": shown(short_job(record.spec)),
        "provenance": f"virtual ({device.id})" if device and is_virtual else "real card",
        "card": shown(device_label(device)) if device else "",
        "versions": shown(", ".join(versions_of(environment, _VERSIONS))),
        "virtual_note": _VIRTUAL_NOTE if is_virtual else "",
        "is_failure": explanation.instant.is_failure,
        "instant": [shown(line.strip()) for line in instant_lines(explanation.instant, kind_of(record))],
        "notes": [shown(note) for note in (*explanation.notes, *record.notes)],
        "verdict": shown(verdict_line(record)),
    }


def _body(record: Record, explanation: Explanation, effects: tuple[Effect, ...] | None) -> dict[str, object]:
    total = explanation.instant.allocated_bytes
    return {
        "when": when_of(explanation.instant),
        "total": format_bytes(total),
        "total_bytes": f"{total:,}",
        "components": [
            _component(component, total, is_open=place < _NUM_OPEN)
            for place, component in enumerate(explanation.components)
        ],
        "lines": [
            {
                "line": shown(line),
                "size": format_bytes(size_bytes),
                "share": share_of(size_bytes, total),
                "count": f"{count:,}",
                "components": components,
            }
            for line, size_bytes, count, components in lines_by_size(explanation)[:_MAX_LINES]
        ],
        "effects_title": effects_title(record),
        "effects": None
        if effects is None
        else [_effect(effect, record) for effect in worth_telling(effects, record)],
    }


def _component(component: Component, total: int, *, is_open: bool) -> dict[str, object]:
    groups, rest = component.groups[:_MAX_GROUPS], component.groups[_MAX_GROUPS:]
    return {
        "name": component.name,
        "colour": _COLOURS[Part(component.name)],
        "size": format_bytes(component.size_bytes),
        "share": share_of(component.size_bytes, total),
        "width": f"{100 * component.size_bytes / max(total, 1):.2f}",
        "is_open": is_open,
        "groups": [{"name": shown(group.name), "lines": list(_lines(group, total))} for group in groups],
        "more": f"{len(rest)} more parts" if rest else "",
        "more_size": format_bytes(sum(group.size_bytes for group in rest)),
    }


def _lines(group: Group, total: int) -> Iterator[dict[str, str]]:
    """The largest lines; the smallest ones as one."""
    for line in group.lines[:_MAX_LINES_OF_A_GROUP]:
        yield {
            "size": format_bytes(line.size_bytes),
            "share": share_of(line.size_bytes, total),
            "count": f"{line.num_blocks:,}",
            "line": shown(line.line),
            "caller": shown(line.caller) if line.caller != line.line else "",
            "stack": shown("\n".join(line.stack)),
        }
    rest = group.lines[_MAX_LINES_OF_A_GROUP:]
    if rest:
        rest_bytes = sum(line.size_bytes for line in rest)
        yield {
            "size": format_bytes(rest_bytes),
            "share": share_of(rest_bytes, total),
            "count": f"{sum(line.num_blocks for line in rest):,}",
            "line": f"{len(rest)} more lines",
            "caller": "",
            "stack": "",
        }


def _effect(effect: Effect, record: Record) -> dict[str, str]:
    return {
        "flags": effect.flags,
        "allocated": format_bytes(effect.allocated_bytes),
        "reserved": format_bytes(effect.reserved_bytes),
        "text": effect_text(effect, record),
        "cost": effect.cost,
    }


def _data(run: ExplainedRun, explanation: Explanation) -> Json:
    """What the chart is drawn from: each text once, an instant as a list of numbers."""
    texts: Numbered[str] = Numbered()
    owners: Numbered[tuple[str, str]] = Numbered()
    windows: list[Json] = [
        {
            "name": timeline.name,
            "start": timeline.start,
            "end": timeline.end,
            "instants": [_row(instant, texts, owners) for instant in timeline.instants],
        }
        for timeline in run.timelines
    ]
    return {
        "kind": kind_of(run.record),
        "moment": run.moment,
        "moment_bytes": explanation.instant.allocated_bytes,
        "is_failure": explanation.instant.is_failure,
        "parts": [(str(part), _COLOURS[part]) for part in Part],
        "spans": [
            {
                "phase": str(span.phase),
                "step": span.step,
                "label": phase_label(span.phase, span.step),
                "start": span.start,
                "end": span.end,
            }
            for span in run.timelines[0].spans
        ],
        "windows": windows,
        "owners": list(owners),
        "lines": list(texts),
    }


def _row(instant: Instant, texts: Numbered[str], owners: Numbered[tuple[str, str]]) -> list[int]:
    owner = instant.owner
    return [
        instant.event,
        int(instant.is_alloc),
        instant.size_bytes,
        -1 if owner is None else owners[str(owner.part), shown(owner.name)],
        texts[shown(instant.line)],
        *instant.part_bytes,
    ]
