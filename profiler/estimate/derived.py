"""The estimate that a derived formula gives: a run that never happened, on the job's card."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from profiler.allocator.rules import NEWEST, rules_of
from profiler.allocator.settings import read_settings
from profiler.errors import ConfigError
from profiler.estimate.apply import Band, Corrected
from profiler.estimate.estimate import Estimate, Fits, Refusal, Verdict, single
from profiler.formula.derived.evaluate import End
from profiler.formula.derived.formula import DERIVED, breakdown_of
from profiler.formula.derived.shelf import find_derived, why_not_derived
from profiler.formula.own.parts import workspace_bytes
from profiler.formula.runnable import check_runnable
from profiler.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from profiler.estimate.card import Card
    from profiler.estimate.estimate import Estimated
    from profiler.formula.derived.evaluate import DerivedFormula, Replayed
    from profiler.formula.derived.file import CheckedRun
    from profiler.jobs.job import JobSpec

_SEGMENT_BYTES = 20 * MIB
"""What one request of the large pool more may reserve: the segment that requests below 10 MiB share."""


def estimate_derived(spec: JobSpec, *, card: Card) -> Estimated:
    """What the derived formula of a job says of it; a refusal where none was derived.

    Raises:
        ConfigError: the job cannot run, or the model is not known.
        EnvironmentUnfitError: it cannot run with what is installed here.
    """
    check_runnable(spec)
    if (not_derived := why_not_derived(spec)) is not None:
        return Refusal(spec=spec, formula=DERIVED, reason=not_derived)
    shelf = find_derived(spec, card_id=card.id)
    if shelf.formula is None:
        reason = "; ".join((*shelf.notes, "none was derived for it yet: `peakvram derive` does"))
        return Refusal(spec=spec, formula=DERIVED, reason=reason)
    try:
        return estimate_with(shelf.formula, spec, card=card, notes=shelf.notes)
    except ConfigError as error:
        return Refusal(spec=spec, formula=DERIVED, reason=f"{error.message}; {error.hint}")


def estimate_with(
    formula: DerivedFormula, spec: JobSpec, *, card: Card, notes: tuple[str, ...] = ()
) -> Estimate:
    """What a derived formula says of a job that it is for.

    Raises:
        ConfigError: it says nothing of such a batch, or its file makes no sense.
    """
    if not formula.regimes_at(spec.batch_size, spec.seq_len)[0]:
        rows = "one row" if spec.batch_size == 1 else "several rows"
        raise ConfigError(
            f"no run of {rows} ended well when its formula was derived", hint="`peakvram run` runs the job"
        )
    try:
        return _Replays(spec, formula, card).estimate(notes)
    except ValueError as error:
        raise ConfigError(
            f"its derived formula is damaged: {error}", hint="`peakvram derive` makes it anew"
        ) from None


class _Replays:
    """All that a job may come to, by its formula."""

    def __init__(self, spec: JobSpec, formula: DerivedFormula, card: Card) -> None:
        self._spec = spec
        self._formula = formula
        self._card = card
        torch = formula.file.versions.get("torch")
        self._settings = read_settings(spec.alloc_conf, rules_of(torch) if torch else NEWEST)

    def estimate(self, notes: tuple[str, ...]) -> Estimate:
        """The estimate, with what it rests on."""
        spec = self._spec
        regimes, is_seen = self._formula.regimes_at(spec.batch_size, spec.seq_len)
        first = regimes[0]
        replayed = self._replay(first)
        others = [self._replay(regime) for regime in regimes[1:]]
        is_known = is_seen and self._formula.is_exact(first, spec.batch_size, spec.seq_len)
        is_exact = is_known and not notes  # of other versions, or another card
        if not is_known:
            others += [self._replay(regime, end=end) for regime in regimes for end in (End.LOW, End.HIGH)]
            notes = (
                *notes,
                "no run was seen to do just this: the figures lie between those of its neighbours",
            )
        checks = self._formula.file.checks
        missed = [
            check for check in checks if check.allocated_difference_bytes or check.reserved_difference_bytes
        ]
        if missed:
            is_exact = False
            notes = (*notes, _missed_text(missed, len(checks)))
        breakdown = breakdown_of(replayed)
        every = [replayed, *others]
        allocated = _band(
            replayed.allocated_bytes,
            (one.allocated_bytes for one in every),
            share=max(
                (abs(one.allocated_difference_bytes) / one.allocated_bytes for one in missed), default=0
            ),
        )
        reserved = _band(
            replayed.reserved_bytes,
            (one.reserved_bytes for one in every),
            share=max((abs(one.reserved_difference_bytes) / one.reserved_bytes for one in missed), default=0),
            slack_bytes=0 if is_exact else _SEGMENT_BYTES,
        )
        context_bytes = self._card.context_bytes
        device = _plus(reserved, context_bytes) if context_bytes is not None else None
        return Estimate(
            spec=spec,
            formula=DERIVED,
            breakdown=breakdown,
            corrected=Corrected(
                breakdown=breakdown, allocated=allocated, reserved=reserved, device_used=device
            ),
            card=self._card,
            verdict=self._verdict(first, reserved, is_exact=is_exact),
            notes=notes,
        )

    def _verdict(self, regime: int, reserved: Band, *, is_exact: bool) -> Verdict:
        """Whether it fits; a card that is too small for all that is kept is tried as the allocator would."""
        context_bytes = self._card.context_bytes
        capacity_bytes = self._card.total_bytes - (context_bytes or 0)
        room_bytes = capacity_bytes - single(reserved.value_bytes)
        yes, no = (
            (Fits.YES, Fits.NO) if is_exact and context_bytes is not None else (Fits.LIKELY, Fits.UNLIKELY)
        )
        if room_bytes >= 0:
            return Verdict(fits=yes, room_bytes=room_bytes, reason="as the allocator's replay has it")
        tried = self._replay(regime, capacity_bytes=capacity_bytes)
        if tried.requested_bytes is None:
            room_bytes = capacity_bytes - tried.reserved_bytes
            reason = (
                f"the allocator gives back what it keeps {tried.num_alloc_retries} times, which takes time"
            )
            return Verdict(fits=yes, room_bytes=room_bytes, reason=reason)
        assert tried.failed_in is not None, "it failed somewhere"
        name, *_ = tried.failed_in
        where = tried.failed_in.of_step.replace(name, f"the {name} phase", 1)
        reason = f"memory runs out in {where}, at a request of {format_bytes(tried.requested_bytes)}"
        return Verdict(fits=no, room_bytes=room_bytes, reason=reason)

    def _replay(
        self,
        regime: int,
        *,
        end: End = End.VALUE,
        capacity_bytes: int | None = None,
    ) -> Replayed:
        spec = self._spec
        return self._formula.replay(
            regime,
            spec.batch_size,
            spec.seq_len,
            workspace_bytes=workspace_bytes(spec.gpu if spec.gpu != "auto" else self._card.id),
            num_steps=spec.steps,
            settings=self._settings,
            capacity_bytes=capacity_bytes,
            end=end,
        )


def _band(value_bytes: int, every: Iterable[int], *, share: float = 0, slack_bytes: int = 0) -> Band:
    """A figure, and between which it lies by all that may happen.

    Args:
        value_bytes: the figure.
        every: it, and what it may be besides.
        share: of it, how far off the formula was at runs it was checked at.
        slack_bytes: by how much more it may differ.
    """
    values = sorted(every)
    more_bytes = slack_bytes + ceil(2 * share * value_bytes)
    return Band(
        value_bytes=value_bytes,
        low_bytes=max(0, values[0] - more_bytes),
        high_bytes=values[-1] + more_bytes,
    )


def _missed_text(missed: Sequence[CheckedRun], num_checks: int) -> str:
    """What is said of a formula that was off where it was checked."""
    allocated_bytes = max(abs(check.allocated_difference_bytes) for check in missed)
    reserved_bytes = max(abs(check.reserved_difference_bytes) for check in missed)
    return (
        f"{len(missed)} of {num_checks} runs that checked the formula took other bytes: up to "
        f"{format_bytes(allocated_bytes)} allocated and {format_bytes(reserved_bytes)} reserved"
    )


def _plus(band: Band, more_bytes: int) -> Band:
    low_bytes, high_bytes = band.low_bytes, band.high_bytes
    assert low_bytes is not None, "it has both ends"
    assert high_bytes is not None, "it has both ends"
    return Band(
        value_bytes=band.value_bytes + more_bytes,
        low_bytes=low_bytes + more_bytes,
        high_bytes=high_bytes + more_bytes,
    )
