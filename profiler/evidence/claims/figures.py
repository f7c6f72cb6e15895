"""Which figures a claim can be about, and how each is read from a record."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from profiler.records.schema import OutcomeStatus, PhaseName, device_peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from profiler.records.schema import PhaseReading, Record


class Unit(StrEnum):
    """What a figure is counted in; `FIT` is 0 for a job that fits its card and 1 for one that does not."""

    BYTES = "bytes"
    BYTES_PER_PARAMETER = "bytes per parameter"
    PARAMETERS = "parameters"
    RATIO = "times"
    PERCENT = "percent"
    EXPONENT = "exponent"
    FIT = "fit"


class ClaimFigure(StrEnum):
    """A figure of one job.

    Of the whole run: `device` is all the card shows as used at the peak (CUDA context and reserved), `fit`
    whether that is within the card, `allocated` the peak in live tensors, `beyond-tensors` device less
    allocated, `context` what the card shows before the first tensor, `unused-reserved` the share of reserved
    that holds no tensor at the peaks.

    Of what is held: `weights` with the quantization's state, `gradients`, `optimizer`, `adapter`,
    `adapter-and-gradients`, `kv-cache` of generation; `-per-parameter` divides by the model's parameters
    (weights, device) or the trained ones (gradients, optimizer, adapter).

    Of a training step, the last one: `saved-activations` is what the forward pass leaves for the backward
    pass, logits included; `working` the peak of forward and backward less what was held when the step began;
    `beyond-weights` the peak of the steps less the weights.

    Of the first step: `before-training` is what the card shows before it, `first-step-rise` how much more it
    shows at that step's peak.

    Shares: `trained-share` of the model's parameters that is trained, `over-weights` device above the
    weights, both in percent; `optimizer-to-weights` and `gradients-to-weights` in times;
    `inference-working` what inference holds at its peak besides weights and cache, in percent of the weights.
    """

    DEVICE = "device"
    FIT = "fit"
    ALLOCATED = "allocated"
    BEYOND_TENSORS = "beyond-tensors"
    CONTEXT = "context"
    UNUSED_RESERVED = "unused-reserved"
    WEIGHTS = "weights"
    GRADIENTS = "gradients"
    OPTIMIZER = "optimizer"
    ADAPTER = "adapter"
    ADAPTER_AND_GRADIENTS = "adapter-and-gradients"
    KV_CACHE = "kv-cache"
    WEIGHTS_PER_PARAMETER = "weights-per-parameter"
    DEVICE_PER_PARAMETER = "device-per-parameter"
    GRADIENTS_PER_PARAMETER = "gradients-per-parameter"
    OPTIMIZER_PER_PARAMETER = "optimizer-per-parameter"
    ADAPTER_PER_PARAMETER = "adapter-per-parameter"
    SAVED_ACTIVATIONS = "saved-activations"
    WORKING = "working"
    BEYOND_WEIGHTS = "beyond-weights"
    BEFORE_TRAINING = "before-training"
    FIRST_STEP_RISE = "first-step-rise"
    TRAINED_SHARE = "trained-share"
    OVER_WEIGHTS = "over-weights"
    OPTIMIZER_TO_WEIGHTS = "optimizer-to-weights"
    GRADIENTS_TO_WEIGHTS = "gradients-to-weights"
    INFERENCE_WORKING = "inference-working"


class Compare(StrEnum):
    """What is made of a job's figure and its counterpart's.

    `ratio` is the one through the other, `saving` and `increase` how much less and more the job takes, in
    percent of the counterpart, `difference` the job's less the counterpart's, `exponent` the p of a figure
    that grows as the length to the power p.
    """

    RATIO = "ratio"
    SAVING = "saving"
    INCREASE = "increase"
    DIFFERENCE = "difference"
    EXPONENT = "exponent"


def unit_of(figure: ClaimFigure, compare: Compare | None) -> Unit:
    """What a figure, or a comparison of two, is counted in."""
    match compare:
        case None | Compare.DIFFERENCE:
            return _UNITS.get(figure, Unit.BYTES)
        case Compare.RATIO:
            return Unit.RATIO
        case Compare.SAVING | Compare.INCREASE:
            return Unit.PERCENT
        case Compare.EXPONENT:
            return Unit.EXPONENT
        case _:
            assert_never(compare)


def read_figure(figure: ClaimFigure, record: Record) -> float | None:
    """The figure of a job, an int where it is bytes; None where its record does not tell.

    A job that did not end well tells nothing, but out of memory it does not fit.
    """
    if record.outcome.status is OutcomeStatus.OOM:
        return 1 if figure is ClaimFigure.FIT else None
    if record.outcome.status is not OutcomeStatus.OK:
        return None
    return _READERS[figure](record)


def compare_figures(compare: Compare, job: float, other: float, *, lengths: tuple[int, int]) -> float | None:
    """What a comparison comes to; None where it has no meaning, as for a ratio to nothing.

    Args:
        compare: which.
        job: the job's figure.
        other: its counterpart's.
        lengths: tokens a row of both.
    """
    if compare is Compare.DIFFERENCE:
        return job - other
    if other <= 0:
        return None
    match compare:
        case Compare.RATIO:
            return job / other
        case Compare.SAVING:
            return 100 * (other - job) / other
        case Compare.INCREASE:
            return 100 * (job - other) / other
        case Compare.EXPONENT:
            is_told = job > 0 and lengths[0] != lengths[1]
            return math.log(job / other) / math.log(lengths[0] / lengths[1]) if is_told else None
        case _:
            assert_never(compare)


def _fit(record: Record) -> int | None:
    used = device_peak_bytes(record)
    if used is None or record.device is None:
        return None
    return int(used > record.device.total_bytes)


def _allocated(record: Record) -> int | None:
    return None if record.peak is None else record.peak.allocated_bytes


def _shown_in(name: PhaseName) -> Callable[[Record], int | None]:
    """The most the card shows as used in the first phase of a name."""

    def read(record: Record) -> int | None:
        return next((phase.device_used_peak_bytes for phase in record.phases if phase.name is name), None)

    return read


def _unused_reserved(record: Record) -> float | None:
    if record.peak is None:
        return None
    return 100 * (record.peak.reserved_bytes - record.peak.allocated_bytes) / record.peak.reserved_bytes


def _held(*names: str) -> Callable[[Record], int | None]:
    """The most these components come to at the end of a phase from the last complete step on, or of all."""

    def read(record: Record) -> int | None:
        counted = (phase.components for phase in _settled(record) if phase.components is not None)
        return max(
            (sum(getattr(part, f"{name}_bytes", 0) for name in names) for part in counted), default=None
        )

    return read


def _settled(record: Record) -> list[PhaseReading]:
    """The phases of the last step; of a job without steps, those after loading."""
    steps = [phase.step for phase in record.phases if phase.step is not None]
    if steps:
        return [phase for phase in record.phases if phase.step == steps[-1]]
    return [phase for phase in record.phases if phase.name not in {PhaseName.CONTEXT, PhaseName.LOAD}]


_weights = _held("weights", "quantization_state")
_gradients = _held("gradients")
_optimizer = _held("optimizer")
_adapter = _held("adapter")
_kv_cache = _held("kv_cache")


def _saved_activations(record: Record) -> int | None:
    ends = [p.components for p in _settled(record) if p.name is PhaseName.FORWARD]
    return ends[0].activations_bytes if ends and ends[0] else None


def _working(record: Record) -> int | None:
    phases = [p for p in _settled(record) if p.name in {PhaseName.FORWARD, PhaseName.BACKWARD}]
    if not phases:
        return None
    return max(phase.allocated_peak_bytes for phase in phases) - phases[0].allocated_start_bytes


def _beyond_weights(record: Record) -> int | None:
    return _less(record.peak_step.allocated_bytes if record.peak_step else None, _weights(record))


_before_training = _shown_in(PhaseName.OPTIMIZER)


def _first_step_rise(record: Record) -> int | None:
    used = [p.device_used_peak_bytes for p in record.phases if p.step == 0]
    return _less(max((n for n in used if n is not None), default=None), _before_training(record))


def _model_parameters(record: Record) -> int | None:
    """The parameters of the model itself, adapters left out."""
    counts = record.parameters
    if counts is None:
        return None
    return counts.total - counts.trainable if hasattr(record.spec.method, "rank") else counts.total


def _trained(record: Record) -> int | None:
    return None if record.parameters is None else record.parameters.trainable


def _over_weights(record: Record) -> float | None:
    return _percent(_less(device_peak_bytes(record), _weights(record)), _weights(record))


def _inference_working(record: Record) -> float | None:
    peaks = [phase.allocated_peak_bytes for phase in _settled(record)]
    held = _held("weights", "quantization_state", "kv_cache")(record)
    return _percent(_less(max(peaks, default=None), held), _weights(record))


def _less(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else whole - part


def _percent(part: float | None, whole: float | None) -> float | None:
    return 100 * part / whole if part is not None and whole else None


def _through(
    part: Callable[[Record], float | None], whole: Callable[[Record], float | None]
) -> Callable[[Record], float | None]:
    def read(record: Record) -> float | None:
        above, below = part(record), whole(record)
        return above / below if above is not None and below else None

    return read


_READERS: Mapping[ClaimFigure, Callable[[Record], float | None]] = {
    ClaimFigure.DEVICE: device_peak_bytes,
    ClaimFigure.FIT: _fit,
    ClaimFigure.ALLOCATED: _allocated,
    ClaimFigure.BEYOND_TENSORS: lambda record: _less(device_peak_bytes(record), _allocated(record)),
    ClaimFigure.CONTEXT: _shown_in(PhaseName.CONTEXT),
    ClaimFigure.UNUSED_RESERVED: _unused_reserved,
    ClaimFigure.WEIGHTS: _weights,
    ClaimFigure.GRADIENTS: _gradients,
    ClaimFigure.OPTIMIZER: _optimizer,
    ClaimFigure.ADAPTER: _adapter,
    ClaimFigure.ADAPTER_AND_GRADIENTS: _held("adapter", "gradients"),
    ClaimFigure.KV_CACHE: _kv_cache,
    ClaimFigure.WEIGHTS_PER_PARAMETER: _through(_weights, _model_parameters),
    ClaimFigure.DEVICE_PER_PARAMETER: _through(device_peak_bytes, _model_parameters),
    ClaimFigure.GRADIENTS_PER_PARAMETER: _through(_gradients, _trained),
    ClaimFigure.OPTIMIZER_PER_PARAMETER: _through(_optimizer, _trained),
    ClaimFigure.ADAPTER_PER_PARAMETER: _through(_adapter, _trained),
    ClaimFigure.SAVED_ACTIVATIONS: _saved_activations,
    ClaimFigure.WORKING: _working,
    ClaimFigure.BEYOND_WEIGHTS: _beyond_weights,
    ClaimFigure.BEFORE_TRAINING: _before_training,
    ClaimFigure.FIRST_STEP_RISE: _first_step_rise,
    ClaimFigure.TRAINED_SHARE: lambda record: _percent(_trained(record), _model_parameters(record)),
    ClaimFigure.OVER_WEIGHTS: _over_weights,
    ClaimFigure.OPTIMIZER_TO_WEIGHTS: _through(_optimizer, _weights),
    ClaimFigure.GRADIENTS_TO_WEIGHTS: _through(_gradients, _weights),
    ClaimFigure.INFERENCE_WORKING: _inference_working,
}
_UNITS: Mapping[ClaimFigure, Unit] = {
    ClaimFigure.FIT: Unit.FIT,
    ClaimFigure.UNUSED_RESERVED: Unit.PERCENT,
    ClaimFigure.WEIGHTS_PER_PARAMETER: Unit.BYTES_PER_PARAMETER,
    ClaimFigure.DEVICE_PER_PARAMETER: Unit.BYTES_PER_PARAMETER,
    ClaimFigure.GRADIENTS_PER_PARAMETER: Unit.BYTES_PER_PARAMETER,
    ClaimFigure.OPTIMIZER_PER_PARAMETER: Unit.BYTES_PER_PARAMETER,
    ClaimFigure.ADAPTER_PER_PARAMETER: Unit.BYTES_PER_PARAMETER,
    ClaimFigure.TRAINED_SHARE: Unit.PERCENT,
    ClaimFigure.OVER_WEIGHTS: Unit.PERCENT,
    ClaimFigure.OPTIMIZER_TO_WEIGHTS: Unit.RATIO,
    ClaimFigure.GRADIENTS_TO_WEIGHTS: Unit.RATIO,
    ClaimFigure.INFERENCE_WORKING: Unit.PERCENT,
}
