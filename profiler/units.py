"""What a number of bytes looks like to a person, and which number a person meant."""

from __future__ import annotations

import re
from fractions import Fraction

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

_BINARY_UNITS = (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB))
_FACTORS = {
    "": 1,
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_QUANTITY = re.compile(r"(?P<number>\d+(?:_\d+)*(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)", re.ASCII)


def format_bytes(n: int) -> str:
    """Shows `n` bytes with two decimals in the largest binary unit not above it: `12.34 GiB`, `512 B`."""
    sign, size = ("-", -n) if n < 0 else ("", n)
    for unit, factor in _BINARY_UNITS:
        # From 1023.995 of the unit below, two decimals would say "1024.00": that is 1.00 of this one.
        if size * 204_800 >= factor * 204_799:
            return f"{sign}{size / factor:.2f} {unit}"
    return f"{sign}{size} B"


def parse_bytes(text: str) -> int:
    """Reads a size a person wrote: `2TiB`, `24 GiB` (binary), `80GB` (decimal), `512` (bytes).

    Raises:
        ValueError: if the text is no size, names no known unit or is not a whole number of bytes.
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write for example 24GiB, 80GB or 25769803776")
    factor = _FACTORS.get(match["unit"].lower())
    if factor is None:
        raise ValueError(f"{match['unit']!r} is no unit of bytes; use KiB, MiB, GiB, TiB or KB, MB, GB, TB")
    size = Fraction(match["number"].replace("_", "")) * factor
    if size.denominator != 1:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)
