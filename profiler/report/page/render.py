"""What the page of a study is as HTML: one file that needs no network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Final

from profiler import __version__
from profiler.report.page.data import page_data
from profiler.report.study_view import provenance
from profiler.report.tables import VIRTUAL, count_outcomes, describe_card, describe_versions
from profiler.report.text import shown

if TYPE_CHECKING:
    from profiler.report.page.calculator import Json
    from profiler.report.study_view import StudyView

_SCRIPTS: Final = (
    *("base", "estimate", "matrix", "calculator", "charts", "closer", "components", "phases", "growth"),
    *("records", "formulas", "start"),
)
"""In the order they need one another."""
_UNSAFE_IN_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


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
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(embed_json(page_data(view))),
    )


def embed_json(data: Json) -> str:
    """JSON that no text in it can end: `</script>` and comments come as escapes, which mean the same."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "".join(_UNSAFE_IN_HTML.get(character, character) for character in text)


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


def _hash(text: str) -> str:
    """What a Content Security Policy calls the one text that may be run or applied."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
