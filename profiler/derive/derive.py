"""A formula for a job, whatever its batch: found from runs, and checked at others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, TypeGuard

from profiler.derive.observe import Asked, CannotFollowError, Observation, Point
from profiler.derive.regimes import (
    SHORTEST,
    between,
    changes,
    first_points,
    guessed,
    inside,
    lines,
    looks_for_multiple,
    places_of,
    stretches,
    told_multiple,
)
from profiler.derive.solve import solve_size
from profiler.formula.derived.evaluate import DerivedFormula
from profiler.formula.derived.file import CheckedRun, DerivedFile, DerivedOn, Phase, Regime, Seen
from profiler.formula.derived.identity import job_fields
from profiler.formula.derived.kinds import Kind, kind_of
from profiler.formula.derived.program import SizedRequest, write_body
from profiler.formula.derived.sizes import Workspace
from profiler.records.schema import CLOSING_PHASES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from profiler.derive.observe import PhaseSteps, Structure
    from profiler.derive.runs import PointRuns
    from profiler.formula.derived.program import Symbol
    from profiler.formula.derived.sizes import Size
    from profiler.records.schema import PhaseName

_MAX_CHANGES = 8
"""Changes of structure along a line that are followed to where they happen; with more, gaps stay unknown."""
_NUM_POINTS_OF_ONE_ROW, _NUM_POINTS = 5, 7
"""Runs that a regime is solved from, where it has room for so many."""
_SHARES = ((0.5, 0.25), (0.75, 0.12), (0.88, 0.37), (0.63, 0.06), (0.94,))
"""Where in a stretch points are added, a few at a time."""
_CHECK_SHARES: Mapping[int, tuple[float, ...]] = {1: (0.43, 0.81), 2: (0.43, 0.81)}
_FEW_CHECK_SHARES = (0.62,)
"""Where in the widest stretch of a line the formula is checked: of a few rows, and of more."""
_FEWEST_LOOKS = 2
"""Of lines that wait for a guess as many are followed at once as keep two cores at work."""
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
        longest: the longest row of tokens that is looked at.
        multiple: of which lengths are one that are apart from others; 1 for none.
    """

    longest: int

    observations: dict[Point, Observation] = field(default_factory=dict)
    failures: dict[Point, str] = field(default_factory=dict)
    structures: list[Structure] = field(default_factory=list)
    longer: dict[int, Observation] = field(default_factory=dict)
    num_steps: int = _FEW_STEPS
    multiple: int = 1

    def add(self, found: Mapping[Point, Observation | str]) -> None:
        for point, one in found.items():
            if isinstance(one, str):
                self.failures[point] = one
                continue
            same = next((known for known in self.structures if known == one.structure), None)
            if same is None:
                self.structures.append(one.structure)
                same = one.structure
            self.observations[point] = replace(one, structure=same)

    def is_new(self, point: Point) -> bool:
        return point not in self.observations and point not in self.failures

    def kind(self, point: Point) -> Kind:
        return kind_of(*point, multiple=self.multiple)

    def of_kind(self, kind: Kind) -> list[Observation]:
        alike = (one for point, one in self.observations.items() if self.kind(point) == kind)
        return sorted(alike, key=lambda one: (one.point.tokens, one.point))

    def lines(self) -> list[list[Observation]]:
        return lines(self.observations.values(), self.multiple)

    def inside(self, stretch: tuple[Observation, Observation], share: float) -> Point:
        first, last = stretch
        return inside(first.point, last.point, share, longest=self.longest, multiple=self.multiple)


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
    known = _Known(longest=longest)
    known.add(runs.observe(first_points(longest, shortest=shortest), num_steps=known.num_steps))
    if not known.observations:
        raise CannotFollowError(f"no run of the job ends well: {next(iter(known.failures.values()))}")
    _find_multiple(runs, known)
    for _ in range(_MAX_ROUNDS):
        _find_changes(runs, known)
        _fill(runs, known)
        longer = runs.observe(_check_points(known), num_steps=max(runs.spec.steps, _FEW_STEPS + 1))
        known = _go_on(runs, known, longer)
        file = _Writer(runs, known).file(key=key, versions=versions)
        checked = _check(runs, known, file, longer)
        if all(check.is_foreseen for check in checked):
            break
    return file.model_copy(
        update={"checks": tuple(check.told for check in checked), "num_runs": runs.num_done}
    )


def _find_multiple(runs: PointRuns, known: _Known) -> None:
    """Finds out whether round lengths are apart from others, and what round is."""
    for line in known.lines():
        points = looks_for_multiple(line)
        known.add(runs.observe(filter(known.is_new, points), num_steps=known.num_steps))
        if points and all(point in known.observations for point in points):
            known.multiple = told_multiple([known.observations[point] for point in points])
            return


def _go_on(runs: PointRuns, known: _Known, longer: Mapping[Point, Observation | str]) -> _Known:
    """What is known once a step more was seen of each regime: the last is like those that follow.

    Where it takes other bytes than the one before, as data has a say in them, all is run with as many steps.
    """
    if known.num_steps > _FEW_STEPS:
        return known
    shown = {id(one.structure): one for one in known.observations.values()}
    for one in filter(_has_ended, longer.values()):
        begun = _begun(one, known.num_steps).structure
        same = next((structure for structure in known.structures if structure == begun), None)
        if same is not None and id(same) not in known.longer:
            known.longer[id(same)] = one
    missing = [one for key, one in shown.items() if key not in known.longer]
    found = runs.observe((one.point for one in missing), num_steps=_FEW_STEPS + 1)
    for one in missing:
        more = found[one.point]
        if isinstance(more, Observation) and _begun(more, known.num_steps).structure == one.structure:
            known.longer[id(one.structure)] = more
    if all(key in known.longer and _is_steady(known.longer[key]) for key in shown):
        return known
    again = replace(known, observations={}, structures=[], longer={}, num_steps=_FEW_STEPS + 1)
    again.add(runs.observe(known.observations, num_steps=again.num_steps))
    return again


def _has_ended(one: Observation | str) -> TypeGuard[Observation]:
    return isinstance(one, Observation)


def _begun(one: Observation, num_steps: int) -> Observation:
    """A run of its first steps alone, and of what comes after the last; its peaks are those of all."""
    structure: list[PhaseSteps] = []
    sizes: list[int] = []
    number = 0
    for phase in one.structure:
        num_asked = sum(isinstance(event, Asked) for event in phase.events)
        if phase.step is None or phase.step < num_steps:
            structure.append(phase)
            sizes += one.sizes[number : number + num_asked]
        number += num_asked
    return replace(one, structure=tuple(structure), sizes=tuple(sizes))


def _is_steady(longer: Observation) -> bool:
    """Whether a run goes on as it began: its last step asks for what the one before did."""
    number, asked = 0, {}
    for phase in longer.structure:
        owners = [event.owner for event in phase.events if isinstance(event, Asked)]
        sizes = longer.sizes[number : number + len(owners)]
        number += len(owners)
        asked[phase.name, phase.step, phase.micro_step] = (owners, sizes)
    last = max((step for _, step, _ in asked if step is not None), default=0)
    return all(
        asked[name, step, micro_step] == asked.get((name, last - 1, micro_step))
        for name, step, micro_step in asked
        if step == last
    )


def _until_the_end(structure: Sequence[PhaseSteps]) -> tuple[PhaseSteps, ...]:
    """A run up to its last step, without what comes after that."""
    return tuple(phase for phase in structure if phase.name not in CLOSING_PHASES)


def _find_changes(runs: PointRuns, known: _Known) -> None:
    """Follows every change of structure to where it happens."""
    while points := list(_next_looks(known)):
        if len(points) < _FEWEST_LOOKS:  # nor need a core wait for points that are run later anyway
            points += filter(known.is_new, _missing(known, _SHARES[0])[:1])
        known.add(runs.observe(points, num_steps=known.num_steps))
        if not any(point in known.observations for point in points):
            return


def _next_looks(known: _Known) -> Iterator[Point]:
    """Where to look next: both sides of where a change is guessed to be, or between where it is.

    Changes of longer lines are mostly where shorter ones have them, which are followed first.
    """
    num_looks = 0
    for line in known.lines():
        found = changes(line)
        if len(found) > _MAX_CHANGES:
            continue  # it changes too often for each change to be followed
        others = [other for other in known.lines() if other[0].point.batch_size != line[0].point.batch_size]
        places = [place for other in others for place in places_of(other, known.multiple)]
        for one, other in found:
            looks = guessed(one.point, other.point, places, known.multiple)
            if not any(map(known.is_new, looks)) and num_looks < _FEWEST_LOOKS:
                point = between(one.point, other.point, known.multiple)
                looks = [point] if point is not None else []
            new = list(filter(known.is_new, looks))
            num_looks += len(new)
            yield from new


def _fill(runs: PointRuns, known: _Known) -> None:
    """Runs as many points of each regime as it takes to solve its sizes."""
    for shares in _SHARES:
        points = _missing(known, shares)
        new = list(filter(known.is_new, points))
        if points and not new:
            continue
        if not points:
            return
        known.add(runs.observe(new, num_steps=known.num_steps))


def _missing(known: _Known, shares: Sequence[float]) -> list[Point]:
    """Points at these shares of stretches whose regimes cannot be solved yet."""
    return [
        known.inside(stretch, share)
        for line in known.lines()
        for stretch in stretches(line)
        for share in shares
        if stretch[0] is not stretch[1] and not _is_enough(known, stretch[0])
    ]


def _is_enough(known: _Known, one: Observation) -> bool:
    """Whether sizes of a run's regime can be solved: batch and length must be told apart."""
    kind = known.kind(one.point)
    points = [other.point for other in known.of_kind(kind) if other.structure is one.structure]
    if kind.is_one_row:
        return len(points) >= _NUM_POINTS_OF_ONE_ROW
    batches = Counter(point.batch_size for point in points)
    return len(points) >= _NUM_POINTS and len(batches) > 2 and len(points) - max(batches.values()) > 2


def _check_points(known: _Known) -> list[Point]:
    """New points: in the widest stretch of each line, and one of every other structure that has room."""
    points, structures = [], set[int]()
    for line in known.lines():
        widest = max(stretches(line), key=_width)
        structures.add(id(widest[0].structure))
        shares = _CHECK_SHARES.get(widest[0].point.batch_size, _FEW_CHECK_SHARES)
        points += [known.inside(widest, share) for share in shares]
    for stretch in sorted(chain.from_iterable(map(stretches, known.lines())), key=_width, reverse=True):
        if id(stretch[0].structure) not in structures:
            structures.add(id(stretch[0].structure))
            points.append(known.inside(stretch, *_FEW_CHECK_SHARES))
    return list(filter(known.is_new, points))


def _width(stretch: tuple[Observation, Observation]) -> float:
    first, last = stretch
    return last.point.seq_len / first.point.seq_len


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    told: CheckedRun
    is_foreseen: bool


def _check(
    runs: PointRuns, known: _Known, file: DerivedFile, found: Mapping[Point, Observation | str]
) -> list[_Checked]:
    """Compares the formula with runs whose sizes it was not made from; those it did not foresee become known.

    Where the formula says itself that it is not exact, there is nothing to check: a run more is known.
    """
    formula = DerivedFormula(file)
    checked: dict[Point, _Checked] = {}
    for point, one in found.items():
        if not isinstance(one, Observation):
            known.failures[point] = one
        elif _is_exact(formula, point):
            checked[point] = _checked(formula, one, runs, known)
        if isinstance(one, Observation) and not (point in checked and checked[point].is_foreseen):
            known.add({point: _begun(one, known.num_steps)})
    return list(checked.values())


def _is_exact(formula: DerivedFormula, point: Point) -> bool:
    regimes, is_sure = formula.regimes_at(*point)
    return is_sure and formula.is_exact(regimes[0], *point)


def _checked(formula: DerivedFormula, one: Observation, runs: PointRuns, known: _Known) -> _Checked:
    """How far off the formula is at a run."""
    regimes, _ = formula.regimes_at(*one.point)
    num_steps = max(runs.spec.steps, _FEW_STEPS + 1)
    said = formula.replay(regimes[0], *one.point, workspace_bytes=_workspace(known), num_steps=num_steps)
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
        for kind in sorted({self._known.kind(point) for point in self._known.observations}, reverse=True):
            observations = self._known.of_kind(kind)
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
            multiple=self._known.multiple,
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
        asked: dict[tuple[PhaseName, int | None], list[SizedRequest]] = {}
        for phase in structure:
            symbols = tuple(self._symbols(phase, vectors, points, solved))
            asked[phase.name, phase.micro_step] = [
                symbol for symbol in symbols if isinstance(symbol, SizedRequest)
            ]
            (closing if phase.name in CLOSING_PHASES else phases).append(self._phase(phase, symbols))
        for phase in _until_the_end(longer.structure)[len(phases) :] if longer else ():
            requests = iter(asked[phase.name, phase.micro_step])
            symbols = tuple(next(requests) if isinstance(one, Asked) else one for one in phase.events)
            phases.append(self._phase(phase, symbols))
        return Regime(phases=(*phases, *closing))

    def _phase(self, phase: PhaseSteps, symbols: Sequence[Symbol]) -> Phase:
        body = self._bodies.setdefault(write_body(symbols), len(self._bodies))
        return Phase(name=phase.name, step=phase.step, micro_step=phase.micro_step, body=body)

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
