"""What a record of a job says: the values, and their shape in JSON."""

from __future__ import annotations

from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, AwareDatetime, Field

from profiler.jobs.job import JobSpec
from profiler.records.redact import KeptText
from profiler.values import MAX_INT, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCHEMA_VERSION: Literal[1] = 1

Bytes: TypeAlias = Annotated[int, Field(ge=0, le=MAX_INT, strict=True)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=MAX_INT, strict=True)]
MicroStep: TypeAlias = Annotated[Count | None, Field(exclude_if=lambda number: number is None)]
"""Which of a step's micro batches, from 0; None, and not written, where a step has one batch."""
UtcDatetime: TypeAlias = Annotated[AwareDatetime, AfterValidator(lambda value: value.astimezone(UTC))]


class PhaseName(StrEnum):
    """The parts of a run, in the order they happen.

    Training has those from `forward` to `zero_grad` once a step, `forward` and `backward` once a micro batch
    where a step accumulates the gradients of several, and after the last step `evaluate` and `save` where the
    job asks for them. Inference goes from `load` to `prefill` and `decode`, and has no others.
    """

    CONTEXT = "context"
    LOAD = "load"
    PREPARE = "prepare"
    ADAPT = "adapt"
    OPTIMIZER = "optimizer"
    FORWARD = "forward"
    BACKWARD = "backward"
    CLIP = "clip"
    STEP = "step"
    ZERO_GRAD = "zero_grad"
    EVALUATE = "evaluate"
    SAVE = "save"
    PREFILL = "prefill"
    DECODE = "decode"


GENERATION_PHASES = (PhaseName.PREFILL, PhaseName.DECODE)
"""What inference does once the model is loaded."""
CLOSING_PHASES = (PhaseName.EVALUATE, PhaseName.SAVE)
"""What training may do after its last step."""


class PhasePlace(NamedTuple):
    """Which phase of a run."""

    phase: PhaseName
    step: int | None = None
    micro_step: int | None = None

    def __str__(self) -> str:
        """`backward, step 1, micro step 0`; `load` where there is no step."""
        return ", ".join((self.phase, *self._numbers()))

    @property
    def of_step(self) -> str:
        """`backward of step 1, micro step 0`; `load` where there is no step."""
        numbers = ", ".join(self._numbers())
        return f"{self.phase} of {numbers}" if numbers else str(self.phase)

    def _numbers(self) -> Iterator[str]:
        if self.step is not None:
            yield f"step {self.step}"
        if self.micro_step is not None:
            yield f"micro step {self.micro_step}"


class OutcomeStatus(StrEnum):
    """How a job ended; out of memory is a result like any other."""

    OK = "ok"
    OOM = "oom"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"


class Components(Value):
    """What the allocated bytes are, counted from the tensors themselves (unique storages).

    `activations_bytes` is what the forward pass left behind, `other_bytes` what no other name covers, so that
    the sum is the allocator's own figure exactly.
    """

    weights_bytes: Bytes = 0
    quantization_state_bytes: Bytes = 0
    adapter_bytes: Bytes = 0
    gradients_bytes: Bytes = 0
    optimizer_bytes: Bytes = 0
    buffers_bytes: Bytes = 0
    batch_bytes: Bytes = 0
    kv_cache_bytes: Bytes = 0
    activations_bytes: Bytes = 0
    workspace_bytes: Bytes = 0
    other_bytes: Bytes = 0

    @property
    def total_bytes(self) -> int:
        """The sum of all components: the allocated bytes they explain."""
        return sum(getattr(self, name) for name in type(self).model_fields)


class HostMemory(Value):
    """What a phase takes of the host's memory.

    Attributes:
        source: `measured`, the process's largest resident set (VmHWM), libraries and mapped files included;
            or `computed`, on a virtual card: what a real run needs for weights on their way to the card,
            tensors copied to the host and offloaded state, on top of Python and its libraries.
        peak_bytes: the most at one time.
        mapped_bytes: of a computed figure, pages of checkpoint files, which the system takes back where it
            is short of memory.
    """

    source: Literal["measured", "computed"]
    peak_bytes: Bytes
    mapped_bytes: Bytes | None = None


class PhaseReading(Value):
    """What the allocator and the card held over one phase; peak counters start anew with each phase.

    Attributes:
        process_used_peak_bytes: what the driver counts as this process's of the used memory; None where
            it does not tell, as under WSL.
        host: left out of JSON where it is not known, as in records of before it was read.
        is_complete: False for the phase a job failed in, read at the failure.
    """

    name: PhaseName
    step: Count | None = None
    micro_step: MicroStep = None
    allocated_start_bytes: Bytes
    allocated_end_bytes: Bytes
    allocated_peak_bytes: Bytes
    reserved_end_bytes: Bytes
    reserved_peak_bytes: Bytes
    device_used_peak_bytes: Bytes | None = None
    process_used_peak_bytes: Bytes | None = None
    num_alloc_retries: Count = 0
    num_ooms: Count = 0
    elapsed_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    is_complete: bool = True
    components: Components | None = None
    host: Annotated[HostMemory | None, Field(exclude_if=lambda host: host is None)] = None

    @property
    def place(self) -> PhasePlace:
        """Which phase it is."""
        return PhasePlace(self.name, self.step, self.micro_step)


class Peak(Value):
    """The largest figures over a span of phases; each may be of another instant."""

    allocated_bytes: Bytes
    reserved_bytes: Bytes
    device_used_bytes: Bytes | None = None


class Steady(Value):
    """What stays between steps once the optimizer's state exists: allocated after the last zero_grad."""

    allocated_end_bytes: Bytes


class OfPhase(Value):
    """What is said of one phase of a run.

    Attributes:
        step: its step, if it has one.
        micro_step: which of the step's micro batches, if it has several.
    """

    phase: PhaseName
    step: Count | None = None
    micro_step: MicroStep = None

    @property
    def place(self) -> PhasePlace:
        """Which phase it is."""
        return PhasePlace(self.phase, self.step, self.micro_step)


class ComponentsAt(OfPhase):
    """The phase whose end the components are of."""


class Parameters(Value):
    """Numbers of parameters, quantized ones counted unpacked."""

    total: Count
    trainable: Count


class Device(Value):
    """The card a job ran on.

    Attributes:
        kind: `real`, or `virtual`, whose figures are never a measurement of hardware.
        id: the catalogue's id of the card, or a slug of its name.
        total_bytes: the memory CUDA reports, not the marketing size.
        compute_capability: `major.minor`, such as `8.9`.
        context_bytes: what the CUDA context takes before the first tensor; None where unknown.
        device_used_source: how the device's figures came about: exact (virtual), sampled (real), none at all.
        reason: why this card was chosen.
    """

    kind: Literal["real", "virtual"]
    id: Annotated[str, Field(min_length=1)]
    name: str
    total_bytes: Bytes
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    num_sms: Count
    uuid: str | None = None
    context_bytes: Bytes | None = None
    device_used_source: Literal["exact", "sampled", "none"]
    reason: str


class Environment(Value):
    """The software a job ran with; `variables` holds allow-listed names only."""

    peakvram: str
    python: str
    platform: str
    torch: str | None = None
    cuda: str | None = None
    transformers: str | None = None
    peft: str | None = None
    bitsandbytes: str | None = None
    accelerate: str | None = None
    driver: str | None = None
    alloc_conf: str = ""
    variables: dict[str, KeptText] = Field(default_factory=dict)
    hostname: str | None = None
    git: str | None = None


class Outcome(Value):
    """How a job ended, and where.

    Attributes:
        phase: the phase it ended in; None where it ended before the first, or after the last.
        requested_bytes: what the request that failed asked for.
        inferred_from: what the status was told from, where no process said it itself.
    """

    status: OutcomeStatus
    phase: PhaseName | None = None
    step: Count | None = None
    micro_step: MicroStep = None
    message: KeptText | None = None
    requested_bytes: Bytes | None = None
    exit_code: Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)] | None = None
    signal: Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)] | None = None
    inferred_from: str | None = None

    @property
    def place(self) -> PhasePlace | None:
        """Which phase it ended in; None as above."""
        return None if self.phase is None else PhasePlace(self.phase, self.step, self.micro_step)


class ValueReads(Value):
    """Host reads of device values that a virtual card cannot know, and where in the code they were."""

    unknown: Count
    sites: tuple[str, ...] = ()


class WorkerReport(Value):
    """What the process that runs a job has found so far; written anew after every phase.

    Attributes:
        managed_bytes: host-visible managed memory of paged optimizers, outside the allocator's figures.
    """

    device: Device
    environment: Environment
    parameters: Parameters | None = None
    phases: tuple[PhaseReading, ...] = ()
    managed_bytes: Bytes = 0
    value_reads: ValueReads | None = None
    notes: tuple[KeptText, ...] = ()
    outcome: Outcome | None = None


class Record(Value):
    """One run of one job: the job, the card, the software, the outcome and every figure read."""

    schema_version: Literal[1] = SCHEMA_VERSION
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    spec: JobSpec
    created_at: UtcDatetime
    environment: Environment | None = None
    device: Device | None = None
    outcome: Outcome
    peak: Peak | None = None
    peak_load: Peak | None = None
    peak_step: Peak | None = None
    steady: Steady | None = None
    components: Components | None = None
    components_at: ComponentsAt | None = None
    phases: tuple[PhaseReading, ...] = ()
    parameters: Parameters | None = None
    managed_bytes: Bytes = 0
    value_reads: ValueReads | None = None
    notes: tuple[KeptText, ...] = ()


def last_step(phases: Sequence[PhaseReading]) -> list[PhaseReading]:
    """The phases of the last step that was completed; none where there was none."""
    ended = [phase.step for phase in phases if phase.name is PhaseName.ZERO_GRAD and phase.is_complete]
    return [phase for phase in phases if ended and phase.step == ended[-1]]


def device_peak_bytes(record: Record) -> int | None:
    """The most a job held of its card: CUDA context + reserved, or what the card said where that is more.

    None where neither the context's size nor the card's own figure is known.
    """
    if record.peak is None or record.device is None:
        return None
    figures = [record.peak.device_used_bytes]
    if record.device.context_bytes is not None:
        figures.append(record.device.context_bytes + record.peak.reserved_bytes)
    return max((figure for figure in figures if figure is not None), default=None)
