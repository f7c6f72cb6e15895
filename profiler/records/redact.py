"""What must not be kept of a command, a message or a variable: the secrets that people write into them.

A secret is told by the name before it (`--hf_token X`, `WANDB_API_KEY=X`), by its own form (`hf_...`), or by
its place in a URL. Names that only sound alike stay: `--tokenizer`, `--pad_token_id`, `--sort-key`.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import AfterValidator

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"
"""Stands for a secret."""

_FORMS = re.compile(
    r"(?<![\w-])(?:"
    r"hf_(?:[A-Za-z0-9]{16,}|(?=[a-z0-9]*[A-Z])(?=[A-Za-z]*[0-9])[A-Za-z0-9]{8,})"  # Hugging Face
    r"|sk-[\w-]{12,}|gh[pousr]_\w{12,}|github_pat_\w{12,}|glpat-[\w-]{12,}|xox[abprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/-]{8,}=*")
_IN_URL = re.compile(
    r"\b(https?://)[^/\s@\"']+@|\b([a-z][a-z0-9+.-]*://)[^/\s@:\"']*:[^/\s@\"']+@", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"""(?P<name>--?[A-Za-z][\w.-]*|[?&][\w.-]+|\b[A-Z][A-Z0-9_]*)(?P<equals>=)(?P<value>[^\s"'&,;)]+)"""
    r"""|(?P<quoted_name>[A-Za-z_][\w.-]*)(?P<quote>["']?\s*[=:]\s*(?P<mark>["']))(?P<quoted>[^"'\s]+)(?P=mark)"""
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ALWAYS = {"secret", "secrets", "password", "passwd", "passphrase", "pwd", "credential", "credentials"}
_JOINED = re.compile(r"(?:api|auth|access|hf|hub|bearer|private|secret|license)(?:key|token)s?|apikeys?")
_STRONG = {"api", "access", "auth", "hf", "hub", "private", "bearer", "secret", "encryption", "license"}
_HARMLESS_BEFORE = {
    *("eos", "bos", "pad", "padding", "unk", "sep", "cls", "mask", "special", "stop", "image", "video"),
    *("audio", "prompt", "new", "per", "next", "end", "start", "begin", "add", "by", "response", "chat"),
    *("user", "primary", "foreign", "sort", "group", "column", "text", "input", "output", "label", "public"),
    *("metric", "answer", "feature", "data", "dataset", "batch", "id", "target", "instruction", "query"),
    "assistant",
}
_HARMLESS = re.compile(
    r"(?:true|false|yes|no|none|null|[+-]?[0-9]{1,9}(?:\.[0-9]*)?|<.*>|\[.*\]|\*\*\*)?", re.IGNORECASE
)


def redact_text(text: str) -> str:
    """A message or a value without what looks like a secret in it."""
    text = _FORMS.sub(MASK, text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _IN_URL.sub(lambda found: f"{found[1] or found[2]}{MASK}@", text)
    return _ASSIGNED.sub(_without_value, text)


def redact_command(words: Iterable[str]) -> tuple[str, ...]:
    """The words of a command without the secrets that they name or are; as many words as before."""
    kept: list[str] = []
    before = ""
    for word in words:
        kept.append(_redact_word(word, after=before))
        before = word
    return tuple(kept)


def _redact_word(word: str, *, after: str) -> str:
    name, equals, value = word.partition("=")
    if after.startswith("-") and "=" not in after and not word.startswith("-") and _hides(after, word):
        return MASK
    is_assigned = bool(equals) and re.fullmatch(r"[\w.+@/-]+", name) is not None
    if is_assigned and (name.startswith("-") or not re.search(r"\s", value)):
        return f"{name}={MASK}" if _hides(name, value) else f"{name}={redact_text(value)}"
    if re.search(r"\s", word):  # a command within the command, such as of `sh -c`
        pieces = re.split(r"(\s+)", redact_text(word))
        pieces[::2] = redact_command(pieces[::2])
        return "".join(pieces)
    return redact_text(word)


def _without_value(found: re.Match[str]) -> str:
    name, value = found["name"] or found["quoted_name"], found["value"] or found["quoted"]
    if not _hides(name, value):
        return found[0]
    return f"{name}={MASK}" if found["name"] else f"{name}{found['quote']}{MASK}{found['mark']}"


def _hides(name: str, value: str) -> bool:
    """Whether the value behind a name is a secret."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or not value:
        return False
    if not _ALWAYS.isdisjoint(words):
        return value.lower() not in ("true", "false", "none", "null", MASK)
    if _HARMLESS.fullmatch(value):
        return False
    *earlier, last = words
    before = earlier[-1] if earlier else ""
    pairs = itertools.pairwise(words)
    is_strong = any(first in _STRONG and then.rstrip("s") in ("key", "token") for first, then in pairs)
    is_named = last in ("token", "key") and before not in _HARMLESS_BEFORE
    return is_strong or is_named or any(_JOINED.fullmatch(word) for word in words)


KeptText: TypeAlias = Annotated[str, AfterValidator(redact_text)]
"""A text that is kept without the secrets in it."""
KeptCommand: TypeAlias = Annotated[tuple[str, ...], AfterValidator(redact_command)]
"""A command that is kept without the secrets in it."""
