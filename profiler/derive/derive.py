"""A formula for a job, whatever its batch: found from runs, and checked at others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiler.derive.observe import Asked, CannotFollowError, Observation, Point
from profiler.derive.regimes import (
    ROWS,
    SHORTEST,
    Row,
    between,
    changes,
    first_points,
    inside,
    lines,
    row_of,
    stretches,
)
from profiler.derive.solve import solve_size
from profiler.formula.derived.evaluate import DerivedFormula
from profiler.formula.derived.file import CheckedRun, DerivedFile, DerivedOn, Phase, Regime, Seen
from profiler.formula.derived.identity import job_fields
from profiler.formula.derived.program import SizedRequest, write_body
from profiler.formula.derived.sizes import Workspace
from profiler.records.schema import CLOSING_PHASES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from profiler.derive.observe import PhaseSteps
    from profiler.derive.runs import PointRuns
    from profiler.formula.derived.program import Symbol
    from profiler.formula.derived.sizes import Size
    from profiler.records.schema import PhaseName

_MAX_CHANGES = 8
"""Changes of structure along a line that are followed to where they happen; with more, gaps stay unknown."""
_NUM_POINTS: Mapping[Row, int] = {"one": 5, "more": 7}
"""Runs that a regime is solved from, where it has room for so many."""
_SHARES = (0.5, 0.25, 0.75, 0.12, 0.88, 0.37, 0.63, 0.06, 0.94)
_CHECK_SHARES = (0.43, 0.81)
_MAX_ROUNDS = 4
_FEW_STEPS = 2
"""Steps of most runs: the second has all that the first made."""


@dataclass(slots=True)
class _Known:
    """All that is known so far.

    Attributes:
        observations: by point; those of one structure share it.
        failures: points at which the job did not end well.
        structures: those that were seen.
        longer: by the id of a structure, a run of it that goes on for a step more.
        num_steps: training steps of the runs.
    """

    observations: dict[Point, Observation] = field(default_factory=dict)
    failures: dict[Point, str] = field(default_factory=dict)
    structures: list[tuple[PhaseSteps, ...]] = field(default_factory=list)
    longer: dict[int, Observation] = field(default_factory=dict)
    num_steps: int = _FEW_STEPS

    def add(self, found: Mapping[Point, Observation | str]) -> None:
        for point, one in found.items():
            if isinstance(one, str):
                self.failures[point] = one
                continue
            same = next((known for known in self.structures if known == one.structure), None)
            if same is None:
                self.structures.append(one.structure)
                same = one.structure
            self.observations[point] = Observation(
                point=point,
                structure=same,
                sizes=one.sizes,
                allocated_bytes=one.allocated_bytes,
                reserved_bytes=one.reserved_bytes,
            )

    def row(self, row: Row) -> list[Observation]:
        of_row = (one for point, one in self.observations.items() if row_of(point) == row)
        return sorted(of_row, key=lambda one: (one.point.tokens, one.point))


def derive(
    runs: PointRuns,
    *,
    key: str,
    shortest: int = SHORTEST,
    longest: int,
    versions: Mapping[str, str | None],
) -> DerivedFile:
    """Derives the formula of a job.

    Args:
        runs: of the job.
        key: what it is kept under.
        shortest: the shortest row of tokens that the job takes, if it is a longer one than usual.
        longest: the longest row of tokens that the model takes.
        versions: of the libraries that are installed.

    Raises:
        CannotFollowError: the job does what no formula can say.
        ConfigError: it is refused whatever its batch.
        EnvironmentUnfitError: it cannot run here.
    """
    known = _Known()
    known.add(runs.observe(first_points(longest, shortest=shortest), num_steps=known.num_steps))
    if not known.observations:
        raise CannotFollowError(f"no run of the job ends well: {next(iter(known.failures.values()))}")
    for _ in range(_MAX_ROUNDS):
        _find_changes(runs, known)
        _fill(runs, known)
        known = _go_on(runs, known)
        file = _Writer(runs, known).file(key=key, versions=versions)
        checked = _check(runs, known, file)
        if all(check.is_foreseen for check in checked):
            break
    return file.model_copy(
        update={"checks": tuple(check.told for check in checked), "num_runs": runs.num_done}
    )


def _go_on(runs: PointRuns, known: _Known) -> _Known:
    """What is known once a step more was seen of each regime: the last is like those that follow.

    Where it takes other bytes than the one before, as data has a say in them, all is run with as many steps.
    """
    if known.num_steps > _FEW_STEPS:
        return known
    shown = {id(one.structure): one for one in known.observations.values()}
    new = [one for key, one in shown.items() if key not in known.longer]
    found = runs.observe((one.point for one in new), num_steps=_FEW_STEPS + 1)
    for one in new:
        longer = found[one.point]
        if isinstance(longer, str) or not _is_steady(one, longer):
            again = _Known(failures=known.failures, num_steps=_FEW_STEPS + 1)
            again.add(runs.observe(known.observations, num_steps=again.num_steps))
            return again
        known.longer[id(one.structure)] = longer
    return known


def _is_steady(one: Observation, longer: Observation) -> bool:
    """Whether a run goes on as it began: its last step asks for what the one before did."""
    (steps, closing), (more_steps, same_closing) = _parted(one.structure), _parted(longer.structure)
    if more_steps[: len(steps)] != steps or same_closing != closing:
        return False
    number, asked = 0, {}
    for phase in longer.structure:
        owners = [event.owner for event in phase.events if isinstance(event, Asked)]
        sizes = longer.sizes[number : number + len(owners)]
        number += len(owners)
        asked[phase.name, phase.step] = (owners, sizes)
    last = max((step for _, step in asked if step is not None), default=0)
    return all(asked[name, step] == asked.get((name, last - 1)) for name, step in asked if step == last)


def _parted(structure: Sequence[PhaseSteps]) -> tuple[tuple[PhaseSteps, ...], tuple[PhaseSteps, ...]]:
    """A run up to its last step, and what comes after that."""
    return (
        tuple(phase for phase in structure if phase.name not in CLOSING_PHASES),
        tuple(phase for phase in structure if phase.name in CLOSING_PHASES),
    )


def _find_changes(runs: PointRuns, known: _Known) -> None:
    """Follows every change of structure to where it happens."""
    while points := list(_next_looks(known)):
        known.add(runs.observe(points, num_steps=known.num_steps))
        if not any(point in known.observations for point in points):
            return


def _next_looks(known: _Known) -> Iterator[Point]:
    for line in lines(known.observations.values()):
        found = changes(line)
        if len(found) > _MAX_CHANGES:
            continue  # it changes too often for each change to be followed
        for one, other in found:
            point = between(one.point, other.point)
            if point is not None and point not in known.observations and point not in known.failures:
                yield point


def _fill(runs: PointRuns, known: _Known) -> None:
    """Runs as many points of each regime as it takes to solve its sizes."""
    for share in _SHARES:
        points = [
            inside(first.point, last.point, share)
            for line in lines(known.observations.values())
            for first, last in stretches(line)
            if first.point != last.point and not _is_enough(known, first)
        ]
        new = [point for point in points if point not in known.observations and point not in known.failures]
        if points and not new:
            continue
        if not points:
            return
        known.add(runs.observe(new, num_steps=known.num_steps))


def _is_enough(known: _Known, one: Observation) -> bool:
    """Whether sizes of a run's regime can be solved: batch and length must be told apart."""
    row = row_of(one.point)
    points = [other.point for other in known.row(row) if other.structure is one.structure]
    if len(points) < _NUM_POINTS[row]:
        return False
    batches = Counter(point.batch_size for point in points)
    return row == "one" or (len(batches) > 2 and len(points) - max(batches.values()) > 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    told: CheckedRun
    is_foreseen: bool


def _check(runs: PointRuns, known: _Known, file: DerivedFile) -> list[_Checked]:
    """Compares the formula with runs that it was not made from; those it did not foresee become known.

    Where the formula says itself that it is not exact, there is nothing to check: a run more is known.
    """
    formula = DerivedFormula(file)
    points = []
    for line in lines(known.observations.values()):
        first, last = max(stretches(line), key=lambda part: part[1].point.seq_len / part[0].point.seq_len)
        points += [inside(first.point, last.point, share) for share in _CHECK_SHARES]
    new = [point for point in points if point not in known.observations and point not in known.failures]
    exact = [point for point in new if _is_exact(formula, point)]
    found = runs.observe(exact, num_steps=runs.spec.steps)
    checked = {
        point: _checked(formula, one, runs, known)
        for point, one in found.items()
        if isinstance(one, Observation)
    }
    more = [point for point in new if point not in checked or not checked[point].is_foreseen]
    known.add(runs.observe(more, num_steps=known.num_steps))
    return list(checked.values())


def _is_exact(formula: DerivedFormula, point: Point) -> bool:
    regimes, is_sure = formula.regimes_at(*point)
    return is_sure and formula.is_exact(regimes[0], *point)


def _checked(formula: DerivedFormula, one: Observation, runs: PointRuns, known: _Known) -> _Checked:
    """How far off the formula is at a run."""
    regimes, _ = formula.regimes_at(*one.point)
    said = formula.replay(
        regimes[0], *one.point, workspace_bytes=_workspace(known), num_steps=runs.spec.steps
    )
    allocated, reserved = one.allocated_bytes - said.allocated_bytes, one.reserved_bytes - said.reserved_bytes
    told = CheckedRun(
        batch_size=one.point.batch_size,
        seq_len=one.point.seq_len,
        allocated_bytes=one.allocated_bytes,
        allocated_difference_bytes=allocated,
        reserved_bytes=one.reserved_bytes,
        reserved_difference_bytes=reserved,
    )
    return _Checked(told=told, is_foreseen=allocated == reserved == 0)


def _workspace(known: _Known) -> int:
    """What cuBLAS took; 0 where nothing asked for any."""
    for one in known.observations.values():
        number = 0
        for phase in one.structure:
            for event in phase.events:
                if isinstance(event, Asked):
                    if event.is_workspace:
                        return one.sizes[number]
                    number += 1
    return 0


class _Writer:
    """Solves the sizes of every regime, and writes all of it down once."""

    def __init__(self, runs: PointRuns, known: _Known) -> None:
        self._runs = runs
        self._known = known
        self._sizes: dict[str, int] = {}
        self._owners: dict[tuple[str, str], int] = {}
        self._bodies: dict[str, int] = {}

    def file(self, *, key: str, versions: Mapping[str, str | None]) -> DerivedFile:
        """The formula as far as it is known, not yet checked."""
        seen: list[Seen] = []
        regimes: list[Regime] = []
        for row in ROWS:
            observations = self._known.row(row)
            numbers: dict[int, int] = {}
            for one in observations:
                if id(one.structure) not in numbers:
                    numbers[id(one.structure)] = len(regimes)
                    same = [other for other in observations if other.structure is one.structure]
                    regimes.append(self._regime(same))
                seen.append(Seen(**one.point._asdict(), regime=numbers[id(one.structure)]))
        spec, card = self._runs.spec, self._runs.card
        major, minor = card.compute_capability
        return DerivedFile(
            key=key,
            model=spec.model,
            job=job_fields(spec),
            versions=dict(versions),
            card=DerivedOn(id=card.id, compute_capability=f"{major}.{minor}", num_sms=card.num_sms),
            num_runs=self._runs.num_done,
            checks=(),
            seen=tuple(seen),
            regimes=tuple(regimes),
            sizes=tuple(self._sizes),
            owners=tuple(self._owners),
            bodies=tuple(self._bodies),
        )

    def _regime(self, observations: Sequence[Observation]) -> Regime:
        """What runs of one structure have in common."""
        points = [one.point for one in observations]
        solved: dict[tuple[int, ...], Size] = {}
        vectors = iter(zip(*(one.sizes for one in observations), strict=True))
        structure = observations[0].structure
        longer = self._known.longer.get(id(structure))
        phases: list[Phase] = []
        closing: list[Phase] = []
        asked: dict[PhaseName, list[SizedRequest]] = {}
        for phase in structure:
            symbols = tuple(self._symbols(phase, vectors, points, solved))
            asked[phase.name] = [symbol for symbol in symbols if isinstance(symbol, SizedRequest)]
            (closing if phase.name in CLOSING_PHASES else phases).append(self._phase(phase, symbols))
        for phase in _parted(longer.structure)[0][len(phases) :] if longer else ():
            requests = iter(asked[phase.name])
            symbols = tuple(next(requests) if isinstance(one, Asked) else one for one in phase.events)
            phases.append(self._phase(phase, symbols))
        return Regime(phases=(*phases, *closing))

    def _phase(self, phase: PhaseSteps, symbols: Sequence[Symbol]) -> Phase:
        body = self._bodies.setdefault(write_body(symbols), len(self._bodies))
        return Phase(name=phase.name, step=phase.step, body=body)

    def _symbols(
        self,
        phase: PhaseSteps,
        vectors: Iterator[tuple[int, ...]],
        points: Sequence[Point],
        solved: dict[tuple[int, ...], Size],
    ) -> Iterator[Symbol]:
        for event in phase.events:
            if not isinstance(event, Asked):
                yield event
                continue
            sizes = next(vectors)
            size: Size = Workspace()
            if not event.is_workspace:
                size = solved.get(sizes) or solved.setdefault(sizes, solve_size(points, sizes))
            number = self._sizes.setdefault(str(size), len(self._sizes))
            yield SizedRequest(number, self._owners.setdefault(event.owner, len(self._owners)))
