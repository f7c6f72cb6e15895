"""What the page of a study is as HTML: one file that needs no network and runs no script but its own."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from profiler import __version__
from profiler.report.base.html import embed_json, policy_hash
from profiler.report.base.study_view import provenance
from profiler.report.base.text import shown
from profiler.report.markdown.tables import VIRTUAL, count_outcomes, describe_card, describe_versions
from profiler.report.page.data import page_data

if TYPE_CHECKING:
    from profiler.report.base.study_view import StudyView

_SCRIPTS: Final = (
    *("base", "estimate", "matrix", "calculator", "charts", "closer", "components", "phases", "growth"),
    *("records", "formulas", "start"),
)
"""In the order they need one another."""


def render_page(view: StudyView) -> str:
    """The page. The same study gives the same page."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - for this alone
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = _asset("page.css"), _script()
    return environment.from_string(_asset("page.html.j2")).render(
        **_header(view),
        style=Markup(style),
        script=Markup(script),
        style_hash=policy_hash(style),
        script_hash=policy_hash(script),
        data=Markup(embed_json(page_data(view))),
    )


def _header(view: StudyView) -> dict[str, object]:
    described = dict.fromkeys(note.sweep.description for note in view.notes if note.sweep.description)
    return {
        "name": shown(view.name),
        "version": __version__,
        "descriptions": [shown(text) for text in described],
        "counts": count_outcomes(view.records),
        "cards": [
            {
                "provenance": provenance(source.device),
                "name": describe_card(source.card),
                "versions": describe_versions(source.card),
            }
            for source in view.cards
        ],
        "has_virtual": any(source.device.kind == "virtual" for source in view.cards),
        "virtual_note": VIRTUAL.replace("**", ""),
        "commands": [shown(note.command) for note in view.notes],
    }


def _script() -> str:
    """All scripts as one function, so that they name nothing on the page."""
    parts = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _asset(name: str) -> str:
    return resources.files(__package__ or "").joinpath("assets", name).read_text(encoding="utf-8")
