"""What a formula says of every job of a table: pandas in, pandas out, thousands of jobs at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from profiler.errors import ConfigError
from profiler.estimate.apply import Band, correct
from profiler.estimate.card import card_of
from profiler.estimate.derived import estimate_with
from profiler.estimate.estimate import DEFAULT_FORMULA, Fits, or_reason
from profiler.estimate.evaluate import Alike, evaluate_group
from profiler.formula.breakdown import Shape
from profiler.formula.catalogue import find_formula
from profiler.formula.chosen import choose_unnamed
from profiler.formula.derived.shelf import find_derived
from profiler.formula.runnable import check_runnable, max_seq_len
from profiler.jobs.job import JobSpec
from profiler.jobs.keys import JOB_KEYS
from profiler.jobs.load import Tree, job_from, set_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from profiler.estimate.apply import Corrected
    from profiler.estimate.card import Card
    from profiler.estimate.estimate import Estimate
    from profiler.estimate.factors import FactorFile
    from profiler.formula.breakdown import Breakdown, Formula, Quantity

_SHAPE_KEYS = ("batch_size", "seq_len")
_LIST_KEYS = ("method.targets", "method.modules_to_save")
_BANDS = ("allocated", "reserved", "device_used")
_ENDS = ("value", "low", "high")
_BYTES = tuple(f"{band}_{end}_bytes" for band in _BANDS for end in _ENDS)
_TEXTS = ("instant", "fits", "formula", "refusal")


def estimate_frame(
    frame: pd.DataFrame, *, formula: Formula | None, factors: FactorFile | None, is_here: bool = True
) -> pd.DataFrame:
    """What a formula says of the job of every row.

    Args:
        frame: a row a job, with columns named as the fields of a job (`model`, `method.kind`, `seq_len`), as
            in the table of a study. A missing column or value is the field's default, a task or attention one
            that suits the model; other columns are left alone. Jobs alike in all but `batch_size` and
            `seq_len` are evaluated together: the fewer such groups there are, the faster it is.
        formula: the formula that is asked; None for the one that knows each job best: the derived formula of
            the job, which replays row after row, or where there is none, ours.
        factors: its corrections; None for the bare formula. A derived formula has none.
        is_here: whether the jobs are to run with the libraries that are installed here.

    Returns:
        A frame with the same index: `estimate.instant`, `estimate.allocated_bytes` with `_low_bytes` and
        `_high_bytes` (the 90 % interval), the same of `reserved` and `device_used`, `estimate.fits`,
        `estimate.formula`, which spoke, and `estimate.refusal` where the job cannot run or the formula says
        nothing. What is not known is missing.

    Raises:
        ConfigError: if a row describes no job; it names the row.
    """
    columns = _Columns(len(frame))
    asked = formula or find_formula(DEFAULT_FORMULA)
    own = factors.formulas.get(asked.id) if factors else None
    for read in group_frame(frame):
        group = replace(read, job=choose_unnamed(read.job)[0]) if is_here else read
        card = or_reason(card_of, group.job)
        if isinstance(card, str):
            columns.refuse(group, reason=card)
            continue
        for whole in _parts(group):
            reason = or_reason(partial(check_runnable, is_here=is_here), whole.job)
            part = whole
            if formula is None and reason is None:
                replayed = _replay_each(whole, card)
                for position, estimate in replayed.items():
                    columns.put(position, estimate)
                part = whole.of(~np.isin(whole.positions, list(replayed)))
            if not part.positions.size:
                continue
            breakdown = evaluate_group(asked, part) if reason is None else reason
            if isinstance(breakdown, str):
                columns.refuse(part, reason=breakdown)
            else:
                corrected = correct(breakdown, factors=own, job=part.job, context_bytes=card.context_bytes)
                columns.fill(part, corrected, card, formula=asked)
    return columns.as_frame(frame.index)


def _replay_each(group: Alike, card: Card) -> dict[int, Estimate]:
    """What the derived formula of some jobs says of those it speaks of, by their positions."""
    shelf = find_derived(group.job, card_id=card.id)
    if shelf.formula is None:
        return {}
    estimates = {}
    for position, job in group.jobs():
        try:
            estimates[position] = estimate_with(shelf.formula, job, card=card, notes=shelf.notes)
        except ConfigError:  # of such a batch it says nothing
            continue
    return estimates


def _parts(group: Alike) -> Iterator[Alike]:
    """The jobs that their model has positions for, together; those of each length that is too long for it."""
    limit = or_reason(max_seq_len, group.job)
    lengths = np.asarray(group.shape.seq_len)
    if not isinstance(limit, int) or (lengths <= limit).all():
        yield group
        return
    too_long = np.unique(lengths[lengths > limit])
    for is_in in (lengths <= limit, *(lengths == length for length in too_long)):
        if is_in.any():
            part = group.of(is_in)
            yield replace(part, job=next(job for _, job in part.jobs()))


def group_frame(frame: pd.DataFrame) -> Iterator[Alike]:
    """The jobs of a table in groups that differ in batch size and length alone.

    Raises:
        ConfigError: if a row describes no job; it names the row.
    """
    batches, lengths = (_counts(frame, key) for key in _SHAPE_KEYS)
    keys = [key for key in JOB_KEYS if key in frame.columns and key not in _SHAPE_KEYS]
    lists = [key for key in _LIST_KEYS if key in keys]
    texts = {key: frame[key].map(_as_text) for key in lists}
    for positions, values in _distinct(frame[keys].assign(**texts)):
        shape = Shape(batch_size=batches[positions], seq_len=lengths[positions])
        bounds = [
            dict(zip(_SHAPE_KEYS, (int(end(shape.batch_size)), int(end(shape.seq_len))), strict=True))
            for end in (np.max, np.min)
        ]
        row = f"row {frame.index[positions[0]]}"
        _, job = (_read_job(values | bound, source=row) for bound in bounds)
        yield Alike(job=job, positions=positions, shape=shape)


def _as_text(value: object) -> object:
    """Names as one text, as a CSV file has them: what is equal must be found equal."""
    return ",".join(value) if isinstance(value, list | tuple) else value


def _distinct(table: pd.DataFrame) -> Iterator[tuple[NDArray[np.int64], Tree]]:
    """The rows that are equal, and what they hold where they hold anything."""
    if table.columns.empty:
        yield np.arange(len(table), dtype=np.int64), {}
        return
    numbers = table.groupby(list(table.columns), dropna=False, sort=False).ngroup().to_numpy()
    order = np.argsort(numbers, kind="stable").astype(np.int64)
    members = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []
    # Only now are types guessed: a CSV file has no whole numbers in a column with a gap.
    firsts = table.iloc[[positions[0] for positions in members]].convert_dtypes().to_dict("records")
    for positions, first in zip(members, firsts, strict=True):
        yield positions, {str(key): value for key, value in first.items() if not pd.isna(value)}


def _counts(frame: pd.DataFrame, key: str) -> NDArray[np.int64]:
    default = JobSpec.model_fields[key].default
    if key not in frame.columns:
        return np.full(len(frame), default, dtype=np.int64)
    try:
        return frame[key].astype("Int64").fillna(default).to_numpy().astype(np.int64)
    except (TypeError, ValueError):
        raise ConfigError(
            f"column {key} holds more than whole numbers", hint="write for example 2048"
        ) from None


def _read_job(values: Mapping[str, object], *, source: str) -> JobSpec:
    tree: Tree = {}
    for key, value in values.items():
        tree = set_value(tree, key, value)
    return job_from(tree, source=source)


class _Columns:
    """The columns of the result, filled group by group; what is never filled is missing."""

    def __init__(self, num_rows: int) -> None:
        self._bytes = {name: np.zeros(num_rows, dtype=np.int64) for name in _BYTES}
        self._is_known = {name: np.zeros(num_rows, dtype=bool) for name in _BYTES}
        self._texts = {name: np.full(num_rows, None, dtype=object) for name in _TEXTS}

    def refuse(self, group: Alike, *, reason: str) -> None:
        self._texts["refusal"][group.positions] = reason

    def fill(self, group: Alike, corrected: Corrected, card: Card, *, formula: Formula) -> None:
        self._texts["instant"][group.positions] = _winners(corrected.breakdown)
        self._texts["fits"][group.positions] = _judge_all(corrected, card)
        self._texts["formula"][group.positions] = formula.id
        self._fill_bytes(group.positions, corrected)

    def put(self, position: int, estimate: Estimate) -> None:
        self._texts["instant"][position] = estimate.breakdown.peak.name
        self._texts["fits"][position] = str(estimate.verdict.fits)
        self._texts["formula"][position] = estimate.formula.id
        self._fill_bytes(np.array([position]), estimate.corrected)

    def _fill_bytes(self, positions: NDArray[np.int64], corrected: Corrected) -> None:
        for name in _BANDS:
            band: Band | None = getattr(corrected, name)
            for end in _ENDS:
                quantity = getattr(band, f"{end}_bytes") if band else None
                if quantity is not None:
                    self._bytes[f"{name}_{end}_bytes"][positions] = quantity
                    self._is_known[f"{name}_{end}_bytes"][positions] = True

    def as_frame(self, index: pd.Index) -> pd.DataFrame:
        series: dict[str, pd.api.extensions.ExtensionArray] = {}
        for name in _TEXTS:
            series[name] = pd.array(self._texts[name], dtype="string")
        for name in _BYTES:
            series[name] = pd.arrays.IntegerArray(self._bytes[name], ~self._is_known[name])
        names = ("instant", *_BYTES, "fits", "formula", "refusal")
        columns = {f"estimate.{name.replace('_value_bytes', '_bytes')}": series[name] for name in names}
        return pd.DataFrame(columns, index=index)


def _winners(breakdown: Breakdown) -> NDArray[np.object_]:
    totals = np.stack(np.broadcast_arrays(*(instant.total_bytes for instant in breakdown.instants)))
    names = np.array([instant.name for instant in breakdown.instants], dtype=object)
    return cast("NDArray[np.object_]", names[totals.argmax(axis=0)])


def _judge_all(corrected: Corrected, card: Card) -> NDArray[np.object_]:
    """`estimate.judge`, for arrays."""
    device = corrected.device_used
    if device is None:
        held = corrected.reserved or corrected.allocated
        is_below = np.asarray(held.value_bytes) <= card.total_bytes
        return np.where(is_below, str(Fits.LIKELY), str(Fits.UNLIKELY)).astype(object)
    return np.select(
        [
            _end(corrected.allocated, "low") + (card.context_bytes or 0) > card.total_bytes,
            _end(device, "high") <= card.total_bytes,
            np.asarray(device.value_bytes) <= card.total_bytes,
        ],
        [str(Fits.NO), str(Fits.YES), str(Fits.LIKELY)],
        str(Fits.UNLIKELY),
    ).astype(object)


def _end(band: Band, end: str) -> NDArray[np.int64]:
    quantity: Quantity | None = getattr(band, f"{end}_bytes")
    return np.asarray(band.value_bytes if quantity is None else quantity)
