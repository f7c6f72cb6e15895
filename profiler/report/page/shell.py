"""What every page of ours is: one HTML file that needs no network and runs no script but its own.

A page is a template that extends `shell.html.j2`, scripts of its own, and data. The style sheet, the scripts
that draw, and the policy that names what may run are here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from profiler import __version__
from profiler.text import shown
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""What JSON can say."""
Key = TypeVar("Key", bound="Hashable")

SCRIPTS: Final = ("shell", "charts")
"""What the scripts of any page stand on."""
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Numbered(dict[Key, int]):
    """Numbers things in the order they come; the same thing has the same number."""

    def __missing__(self, key: Key) -> int:
        """Gives a new thing the next number."""
        self[key] = len(self)
        return self[key]


def fill_page(template: str, data: Json, *, scripts: Sequence[str], **texts: object) -> str:
    """A page; the same arguments give the same bytes.

    Args:
        template: the name of its template, without the ending.
        data: what its scripts draw from.
        scripts: the names of its own, in the order they need one another.
        texts: what the template names; all of it is escaped, control characters are made visible.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - for this alone
    from markupsafe import Markup  # noqa: PLC0415 - with jinja2, which pages alone need

    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else shown(str(value)),
    )
    environment.filters["bytes"] = format_bytes
    style, script = _asset("style.css"), script_of(scripts)
    return environment.get_template(f"{template}.html.j2").render(
        **texts,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        style_hash=_policy_hash(style),
        script_hash=_policy_hash(script),
        data=Markup(embed_json(data)),
    )


def script_of(names: Sequence[str]) -> str:
    """All scripts of a page as one function, so that they name nothing on the page."""
    parts = "\n".join(_asset(f"{name}.js") for name in (*SCRIPTS, *names))
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def embed_json(data: object) -> str:
    """JSON that no text in it can end: `</script>` and comments come as escapes, which mean the same."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "".join(_UNSAFE.get(character, character) for character in text)


def _policy_hash(text: str) -> str:
    """What a Content Security Policy calls the one text that may be run or applied."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return resources.files(__package__ or "").joinpath("assets", name).read_text(encoding="utf-8")
