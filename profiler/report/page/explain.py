"""The page of an explained run: what was in memory at its peak, over time and by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from profiler.explain.owners import Part
from profiler.records.store import short_model
from profiler.report.base.describe import VIRTUAL_CARD, short_job, versions_of
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
from profiler.report.base.verdict import device_label, verdict_line
from profiler.report.page.shell import Numbered, fill_page
from profiler.text import shown

if TYPE_CHECKING:
    from profiler.explain.effects import Effect
    from profiler.explain.explanation import Explanation
    from profiler.explain.run import ExplainedRun
    from profiler.explain.timeline import TimelinePoint
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
_VIRTUAL_NOTE = f"{VIRTUAL_CARD.replace('VIRTUAL GPU', 'Virtual')}."


def explanation_page(run: ExplainedRun, effects: tuple[Effect, ...] | None) -> str:
    """The page of a run that has an explanation; the same run gives the same page."""
    assert run.explanation is not None, "the caller has looked"
    record, explanation, kind = run.record, run.explanation, kind_of(run.record)
    device, total = record.device, explanation.instant.allocated_bytes
    return fill_page(
        "explain",
        _data(run, explanation),
        scripts=SCRIPTS,
        model=short_model(record.spec.model),
        job=short_job(record.spec),
        provenance=f"virtual ({device.id})" if device and kind == "virtual" else "real card",
        card=device_label(device) if device else "",
        versions=", ".join(versions_of(record.environment, _VERSIONS)),
        virtual_note=_VIRTUAL_NOTE if kind == "virtual" else "",
        instant=explanation.instant,
        instant_lines=[line.strip() for line in instant_lines(explanation.instant, kind)],
        notes=(*explanation.notes, *record.notes),
        verdict=verdict_line(record),
        when=when_of(explanation.instant),
        components=explanation.components,
        colours={str(part): colour for part, colour in _COLOURS.items()},
        share=lambda size_bytes: share_of(size_bytes, total),
        lines=lines_by_size(explanation)[:_MAX_LINES],
        effects_title=effects_title(record),
        effects=None if effects is None else worth_telling(effects, record),
        effect_text=lambda effect: effect_text(effect, record),
        limits={"open": _NUM_OPEN, "groups": _MAX_GROUPS, "lines": _MAX_LINES_OF_A_GROUP},
    )


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
                "phase": str(span.place.phase),
                "step": span.place.step,
                "label": phase_label(span.place),
                "start": span.start,
                "end": span.end,
            }
            for span in run.timelines[0].spans
        ],
        "windows": windows,
        "owners": list(owners),
        "lines": list(texts),
    }


def _row(instant: TimelinePoint, texts: Numbered[str], owners: Numbered[tuple[str, str]]) -> list[int]:
    owner = instant.owner
    return [
        instant.event,
        int(instant.is_alloc),
        instant.size_bytes,
        -1 if owner is None else owners[str(owner.part), shown(owner.name)],
        texts[shown(instant.line)],
        *instant.part_bytes,
    ]
