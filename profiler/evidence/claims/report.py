"""What the audit of published claims looks like: Markdown and CSV for a study, a table for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from profiler.evidence.claims.documents import DEFAULT_TOLERANCE, Arithmetic, Runs, Unchecked
from profiler.evidence.claims.figures import Unit
from profiler.evidence.claims.judge import ClaimVerdict, Judgement
from profiler.report.base.arrange import by_card
from profiler.report.base.text import UNKNOWN, literal, plain_table
from profiler.report.markdown.write import cards_list, code, escape, table
from profiler.text import csv_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.table import Table

    from profiler.evidence.claims.documents import ClaimSet, Document
    from profiler.evidence.claims.judge import FoundFigure
    from profiler.records.schema import Record

VIRTUAL_RUNS = (
    "A figure called *virtual* is of a virtual card: PyTorch's own CUDA caching allocator ran over a card "
    "that is not there. None of them was measured on hardware."
)
_RULE = f"""\
A claim is a range; a single figure is a range with equal ends. It is widened at both ends by its tolerance,
{DEFAULT_TOLERANCE:.0%} unless the claim says otherwise. The evidence gives one figure for each job, or each
combination of arguments. All inside: **holds**. All above: **too low**. All below: **too high**. Otherwise it
**depends** on what the author leaves open, and the table shows which settings give the lowest and the highest
figure. A claim that a job fits is too low where no job does, and one that it does not fit too high where all
do.

GB is 10^9 bytes, as the documents count it. *Device* is all the card shows as used: the CUDA context and what
PyTorch's allocator has reserved.
"""
CLAIMS_END_MARK = "<!-- What is above this line is written by `peakvram claims`; what is below is kept. -->"
_DECIMAL = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def claims_readme(claims: ClaimSet, judgements: Mapping[str, Judgement], records: Sequence[Record]) -> str:
    """The page of all claims: how they were judged, how many hold, and a table a document.

    Args:
        claims: all documents.
        judgements: of every claim, by its id.
        records: those the verdicts rest on.
    """
    parts = [
        "# Published claims about GPU memory, checked\n",
        f"{summary_line(judgements.values())}\n",
        _summary_table(claims, judgements),
        f"## How a claim is judged\n\n{_RULE}",
        f"{VIRTUAL_RUNS}\n",
        *([cards_list(cards)] if (cards := by_card(records)) else []),
        "## How it was made\n\n    peakvram claims\n",
        "`claims.csv` has every claim with its figures in full, and the keys of the records they were read\n"
        "from; `records.jsonl.gz` (or `records/`) has the records.\n",
    ]
    for document in claims.documents:
        parts += _document_parts(document, judgements)
    parts.append(_grid_part(claims))
    return "\n".join([*parts, f"{CLAIMS_END_MARK}\n"])


def claims_csv(claims: ClaimSet, judgements: Mapping[str, Judgement]) -> str:
    """Every claim and what was found, one row each; sizes in bytes, keys of records separated by spaces."""
    rows = [
        claim_row(document, judgements[claim.id])
        for document in claims.documents
        for claim in document.claims
    ]
    return csv_text([*rows[0]], (row.values() for row in rows))


def claim_row(document: Document, judgement: Judgement) -> dict[str, object]:
    """One claim as plain data."""
    claim, lowest, highest = judgement.claim, judgement.lowest, judgement.highest
    return {
        "document": document.id,
        "id": claim.id,
        "verdict": str(judgement.verdict),
        "unit": None if judgement.unit is None else str(judgement.unit),
        "claimed_low": claim.claimed.low if claim.claimed else None,
        "claimed_high": claim.claimed.high if claim.claimed else None,
        "tolerance": claim.tolerance,
        "found_low": lowest.value if lowest else None,
        "found_high": highest.value if highest else None,
        "num_figures": len(judgement.found),
        "num_inside": judgement.num_inside,
        "evidence": _source(judgement),
        "figure": _figure(judgement),
        "lowest": lowest.where if lowest else None,
        "highest": highest.where if highest else None,
        "lowest_keys": " ".join(lowest.keys) if lowest else None,
        "highest_keys": " ".join(highest.keys) if highest else None,
        **{name: getattr(claim, name) for name in ("quote", "place", "says", "assumes", "note")},
        "reason": judgement.reason,
    }


def claims_table(judgements: Iterable[Judgement]) -> Table:
    """Claims for a terminal: what is claimed, what was found, the verdict."""
    columns = {"claim": "left", "claimed": "right", "found": "right", "by": "left", "verdict": "left"}
    rows = plain_table(columns)
    rows.columns[0].no_wrap = True
    for judgement in judgements:
        cells = (judgement.claim.id, _claimed(judgement), _found(judgement), _source(judgement))
        rows.add_row(*(literal(cell) for cell in (*cells, str(judgement.verdict))))
    return rows


def count_verdicts(judgements: Iterable[Judgement]) -> Counter[ClaimVerdict]:
    """How many claims got which verdict, in the order of the verdicts."""
    counts = Counter(judgement.verdict for judgement in judgements)
    return Counter({verdict: counts[verdict] for verdict in ClaimVerdict if counts[verdict]})


def summary_line(judgements: Iterable[Judgement]) -> str:
    """`90 claims: 31 holds, 22 too low, ...`."""
    counts = count_verdicts(judgements)
    number = counts.total()
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{number} claim{'' if number == 1 else 's'}: {verdicts}"


def show_quantity(value: float | None, unit: Unit | None) -> str:
    """A figure for people: `14.8 GB`, `2.00 x`, `30 %`, `fits`."""
    if value is None or unit is None:
        return UNKNOWN
    return _FORMATS[unit](value)


def _decimal_size(value: float) -> str:
    sign, size = ("-", -value) if value < 0 else ("", value)
    for name, factor in _DECIMAL:
        if size >= factor:
            return f"{sign}{size / factor:.{1 if size >= 10 * factor else 2}f} {name}"
    return f"{sign}{size:.0f} B"


_FORMATS: Mapping[Unit, Callable[[float], str]] = {
    Unit.BYTES: _decimal_size,
    Unit.BYTES_PER_PARAMETER: "{:.2f} B/parameter".format,
    Unit.PARAMETERS: "{:,.0f}".format,
    Unit.RATIO: "{:.2f} x".format,
    Unit.PERCENT: "{:.1f} %".format,
    Unit.EXPONENT: "{:.2f}".format,
    Unit.FIT: lambda value: "does not fit" if value else "fits",
}


def _summary_table(claims: ClaimSet, judgements: Mapping[str, Judgement]) -> str:
    verdicts = [verdict for verdict in ClaimVerdict if verdict in count_verdicts(judgements.values())]
    rows = []
    for document in claims.documents:
        counts = count_verdicts(judgements[claim.id] for claim in document.claims)
        cells = [f"{counts[verdict]}" for verdict in verdicts]
        rows.append([escape(document.title), str(len(document.claims)), *cells])
    return table(["document", "claims", *map(str, verdicts)], rows, num_left=1)


def _document_parts(document: Document, judgements: Mapping[str, Judgement]) -> Iterator[str]:
    yield f"## {escape(document.title)}\n"
    author, published = escape(document.author), escape(document.published)
    yield f"{code(document.id)}; author: {author}; published: {published}.\n"
    headings = ["claim", "the author's words", "read as", "claimed", "found", "verdict"]
    rows = (_cells(judgements[claim.id]) for claim in document.claims)
    yield table(headings, rows, num_left=len(headings))


def _cells(judgement: Judgement) -> list[str]:
    claim = judgement.claim
    place = f" ({escape(claim.place)})" if claim.place else ""
    assumes = f" *{escape(claim.assumes)}*" if claim.assumes else ""
    grid = f" Grid {code(claim.evidence.grid)}." if isinstance(claim.evidence, Runs) else ""
    return [
        escape(claim.id),
        f'"{escape(claim.quote)}"{place}',
        f"{escape(claim.says)}{assumes}{grid}",
        escape(_claimed(judgement)),
        _found_cell(judgement),
        " ".join(part for part in (f"**{judgement.verdict}**", escape(claim.note)) if part),
    ]


def _claimed(judgement: Judgement) -> str:
    claimed, unit = judgement.claim.claimed, judgement.unit
    if claimed is None:
        return UNKNOWN
    if claimed.high is None:
        return f"at least {show_quantity(claimed.low, unit)}"
    if claimed.low is None:
        return f"at most {show_quantity(claimed.high, unit)}"
    return _show_range(claimed.low, claimed.high, unit)


def _found(judgement: Judgement) -> str:
    lowest, highest = judgement.lowest, judgement.highest
    if lowest is None or highest is None:
        return UNKNOWN
    return _show_range(lowest.value, highest.value, judgement.unit)


def _show_range(low: float, high: float, unit: Unit | None) -> str:
    """`14.0 to 15.0 GB`; one figure where both look alike."""
    texts = [show_quantity(value, unit) for value in (low, high)]
    if texts[0] == texts[1]:
        return texts[0]
    number, _, name = texts[0].rpartition(" ")
    is_shared = unit is not Unit.FIT and number and texts[1].endswith(f" {name}")
    return f"{number if is_shared else texts[0]} to {texts[1]}"


def _found_cell(judgement: Judgement) -> str:
    if not judgement.found:
        return escape(judgement.reason)
    parts = [escape(f"{_found(judgement)}, {_source(judgement)}")]
    if judgement.verdict is ClaimVerdict.DEPENDS:
        parts.append(f"{judgement.num_inside} of {len(judgement.found)} inside")
    parts += [f"{name}: {escape(found.where)}" for name, found in _extremes(judgement)]
    parts += [escape(judgement.reason)] if judgement.reason else []
    return "; ".join(parts)


def _extremes(judgement: Judgement) -> list[tuple[str, FoundFigure]]:
    """What gives the lowest and the highest figure; once where there is but one."""
    lowest, highest = judgement.lowest, judgement.highest
    if lowest is None or highest is None or not lowest.where:
        return []
    if lowest.value == highest.value:
        return [("from", lowest)] if len(judgement.found) == 1 else []
    return [("lowest", lowest), ("highest", highest)]


def _source(judgement: Judgement) -> str:
    """Where figures come from; those of a virtual card are called so."""
    match judgement.claim.evidence:
        case Runs():
            return " and ".join(judgement.kinds) or "no run"
        case Arithmetic():
            return "arithmetic"
        case Unchecked():
            return "none"


def _figure(judgement: Judgement) -> str | None:
    match judgement.claim.evidence:
        case Runs(figure=figure, compare=compare):
            return str(figure) if compare is None else f"{compare} of {figure}"
        case Arithmetic(calculator=calculator):
            return str(calculator)
        case Unchecked():
            return None


def _grid_part(claims: ClaimSet) -> str:
    lines = "\n".join(f"- {code(name)}: {escape(grid.about)}" for name, grid in claims.grids.items())
    return f"## The grids\n\nThe settings that authors leave open, over a plausible range:\n\n{lines}\n"
