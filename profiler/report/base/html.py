"""What any page of ours needs to be safe: data that cannot end its script, and the hashes of what may run."""

from __future__ import annotations

import base64
import hashlib
import json

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def embed_json(data: object) -> str:
    """JSON that no text in it can end: `</script>` and comments come as escapes, which mean the same."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "".join(_UNSAFE.get(character, character) for character in text)


def policy_hash(text: str) -> str:
    """What a Content Security Policy calls the one text that may be run or applied."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
