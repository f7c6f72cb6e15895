"""What is known of a followed command once it has ended: the values, and their shape in JSON."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from profiler.records.schema import Bytes, Count, Device, Peak, UtcDatetime
from profiler.values import Value
from profiler.virtual.routing import Routing

SCHEMA_VERSION: Literal[1] = 1


class CommandStatus(StrEnum):
    """How a command ended, as far as it matters for its memory."""

    OK = "ok"
    STOPPED = "stopped"
    OOM = "oom"
    ERROR = "error"
    KILLED = "killed"
    TIMEOUT = "timeout"
    UNUSED = "unused"


class PartEnd(Value):
    """The end of a part of a script: what the allocator held then, and its peaks until then.

    Attributes:
        part: `setup` (until the first forward pass), `forward`, `backward`, `clip` (until the optimizer's
            step), `step` or `rest`.
        step: the optimizer steps that were done before it.
    """

    part: Literal["setup", "forward", "backward", "clip", "step", "rest"]
    step: Count
    allocated_bytes: Bytes
    reserved_bytes: Bytes
    allocated_peak_bytes: Bytes
    reserved_peak_bytes: Bytes
    num_alloc_retries: Count = 0
    num_ooms: Count = 0


class Reads(Value):
    """Reads by the host of values that a virtual card cannot know.

    Attributes:
        decisions: those that could have decided a size or a branch; the result depends on them.
        decision_sites: where in the code they were.
        others: those of floating-point values and of data, such as of a loss; one that the script makes a
            size of would decide too.
        other_sites: where in the code these were.
        assumed: answers that a run which works shows: checks that else raise an error are passed, a router's
            choices are made, a next token does not end its text.
        assumed_sites: where in the code they were.
        inexact: operations sized by values whose temporary buffers are not those of a real card, as this
            torch counts in another way than those that were looked at.
    """

    decisions: Count
    decision_sites: tuple[str, ...] = ()
    others: Count = 0
    other_sites: tuple[str, ...] = ()
    assumed: Count = 0
    assumed_sites: tuple[str, ...] = ()
    inexact: tuple[str, ...] = ()


class OutOfMemory(Value):
    """The last request that the card could not meet, and the line of the script it came from."""

    requested_bytes: Bytes
    line: str | None = None


class Ending(Value):
    """How a process ended, by its own account: none where a signal killed it."""

    kind: Literal["exit", "os._exit", "os.exec"]
    error: str | None = None
    is_out_of_memory: bool = False


class ProcessReport(Value):
    """One process of the command that used CUDA. Figures are of its own caching allocator.

    What it allocated is None where it could not tell: it was not followed, or it was killed and took more of
    the card after it last told. What it reserved is then what the card counted.

    Attributes:
        cuda: the CUDA release of its torch.
        device_used_bytes: the most it held of the card, its CUDA context and what libraries take past torch
            with it; None where the driver does not tell.
        device_uuid: of the card it used; None where its torch does not tell.
        num_steps: optimizer steps that were done.
        has_stopped: whether it was ended after the number of steps that was asked for.
        exit_status: as its parent saw it, 128 and the signal's number where one killed it; None where it did
            not come to write it.
    """

    pid: Count
    command: tuple[str, ...]
    versions: dict[str, str]
    cuda: str | None = None
    allocated_bytes: Bytes | None
    reserved_bytes: Bytes | None
    allocated_peak_bytes: Bytes | None
    reserved_peak_bytes: Bytes
    num_alloc_retries: Count
    num_ooms: Count
    device_used_bytes: Bytes | None = None
    device_uuid: str | None = None
    num_steps: Count
    marks: tuple[PartEnd, ...] = ()
    out_of_memory: OutOfMemory | None = None
    has_stopped: bool = False
    ending: Ending | None = None
    exit_status: Count | None = None
    reads: Reads | None = None

    @property
    def peak_mark(self) -> PartEnd | None:
        """The end of the part in which most was allocated; None where no mark has seen it."""
        return next((m for m in self.marks if m.allocated_peak_bytes == self.allocated_peak_bytes), None)

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether it ended because the card was full."""
        return self.ending is not None and self.ending.is_out_of_memory


class CommandResult(Value):
    """One run of a command on one card.

    Attributes:
        exit_code: the command's own, 128 and the signal's number where one killed it.
        device_used_bytes: the card's peak, all processes and their CUDA contexts together; None where its
            driver does not tell.
        managed_bytes: host-visible managed memory of paged optimizers, outside all other figures.
        routing: where routers were taken to send tokens; None on a real card.
        processes: those that used CUDA, the one that reserved most first.
        blind_pids: processes that loaded torch or CUDA outside the environment that shows them the card.
        unknown_functions: CUDA functions that were called and that a virtual card does not have.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["exec"] = "exec"
    command: tuple[str, ...]
    created_at: UtcDatetime
    device: Device
    status: CommandStatus
    exit_code: int
    signal: int | None = None
    stop_after: Count | None = None
    device_used_bytes: Bytes | None = None
    managed_bytes: Bytes = 0
    routing: Routing | None = None
    processes: tuple[ProcessReport, ...] = ()
    blind_pids: tuple[Count, ...] = ()
    unknown_functions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> ProcessReport | None:
        """The process that reserved most."""
        return self.processes[0] if self.processes else None

    @property
    def is_known(self) -> bool:
        """Whether every process that was to use the card was seen, and told what it took."""
        return not self.blind_pids and all(p.allocated_peak_bytes is not None for p in self.processes)

    @property
    def peak(self) -> Peak | None:
        """The largest process's peaks, and the card's; None where it could not tell."""
        if self.largest is None or self.largest.allocated_peak_bytes is None:
            return None
        return Peak(
            allocated_bytes=self.largest.allocated_peak_bytes,
            reserved_bytes=self.largest.reserved_peak_bytes,
            device_used_bytes=self.device_used_bytes,
        )
