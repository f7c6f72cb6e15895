"""Running a command on a card and following it: from what was asked to the result."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.execute.prepare import describe_device
from profiler.files import reason_of
from profiler.follow.gather import gather
from profiler.follow.guard import Guard
from profiler.follow.processes import end_processes, wait_for_processes
from profiler.follow.seen import CommandEnd, Sampled
from profiler.follow.surroundings import lay_out
from profiler.follow.tree import ProcessTree
from profiler.hardware.catalogue import Gpu
from profiler.hardware.idle import idle_notes
from profiler.hardware.sampler import UsedMemorySampler
from profiler.process.interrupts import Interrupts
from profiler.process.leases import lease_device
from profiler.process.scratch import ScratchDirectory
from profiler.virtual.routing import Routing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from profiler.follow.result import CommandResult
    from profiler.follow.surroundings import Surroundings
    from profiler.process.leases import LeasedDevice

_GRACE_S = 10.0
"""How long processes may outlive the command, or a request to end: pools of helpers take a moment."""
_TIMED_OUT = 124


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowOptions:
    """How to follow a command.

    Attributes:
        gpu: the card, as `choose_device` takes it.
        gpu_memory_bytes: the capacity of a virtual card, instead of its own.
        stop_after: end it after so many optimizer steps; None for its own end.
        timeout_s: end it after so long; None for never.
        routing: where routers are taken to send tokens, on a virtual card.
        allow_busy: run it on a real card that other processes use.
    """

    gpu: str = "auto"
    gpu_memory_bytes: int | None = None
    stop_after: int | None = None
    timeout_s: float | None = None
    routing: Routing = Routing.EVEN
    allow_busy: bool = False


def follow_command(command: Sequence[str], options: FollowOptions) -> CommandResult:
    """Run a command, its output and input those of this process, and tell what it took of the card.

    Raises:
        ConfigError: there is no such command, or no such card.
        EnvironmentUnfitError: it cannot run here, or needs more than one card.
    """
    memory_bytes, allow_busy = options.gpu_memory_bytes, options.allow_busy
    with lease_device(options.gpu, gpu_memory_bytes=memory_bytes, allow_busy=allow_busy) as leased:
        return _follow(command, leased, options)


def _follow(command: Sequence[str], leased: LeasedDevice, options: FollowOptions) -> CommandResult:
    choice = leased.choice
    notes = (*leased.notes, *idle_notes(choice.gpu, allow_busy=options.allow_busy))
    created_at = datetime.now(UTC)
    with ExitStack() as opening:
        directory = opening.enter_context(ScratchDirectory("exec")).path
        around = lay_out(
            directory, choice, base=os.environ, stop_after=options.stop_after, routing=options.routing
        )
        opening.enter_context(Guard(directory))
        interrupts = opening.enter_context(Interrupts())
        # Whatever happens from now on, a signal while the command is only just there included.
        opening.callback(_end_all, directory, interrupts)
        sampler = (
            None if isinstance(choice.gpu, Gpu) else opening.enter_context(UsedMemorySampler(choice.gpu))
        )
        end = _run(command, directory, around, interrupts, timeout_s=options.timeout_s)
        sampled = Sampled()
        if sampler is not None:
            sampled = Sampled(used_peak_bytes=sampler.peak_bytes, process_peaks=sampler.process_peaks)
        gathered = gather(around, end, sampled=sampled)
    return gathered.to_result(
        command=tuple(command),
        created_at=created_at,
        device=describe_device(choice),
        stop_after=options.stop_after,
        routing=options.routing if around.machine is not None else None,
        notes=notes,
    )


def _run(
    command: Sequence[str],
    directory: Path,
    around: Surroundings,
    interrupts: Interrupts,
    *,
    timeout_s: float | None,
) -> CommandEnd:
    try:
        process = subprocess.Popen(list(command), env=around.variables)
    except OSError as error:
        raise ConfigError(
            f"cannot run {command[0]!r}: {reason_of(error)}",
            hint="write the command as in a terminal: peakvram exec -- python train.py",
        ) from error
    is_late, asked_by, left = False, None, []
    with ProcessTree(process.pid, around.wanted) as tree:
        try:
            process.wait(timeout_s)
            left = wait_for_processes(directory, grace_s=_GRACE_S)
        except subprocess.TimeoutExpired:
            is_late = True
        except (KeyboardInterrupt, SystemExit) as asked:
            asked_by = _signal_of(asked)
            _pass_on(asked_by, process)
        finally:
            _end_all(directory, interrupts)
            process.wait()
    code = process.returncode
    killed_by = -code if code < 0 and not is_late else None
    return CommandEnd(
        pid=process.pid,
        exit_code=_TIMED_OUT if is_late else code if code >= 0 else 128 - code,
        signal=asked_by or killed_by,
        timeout_s=timeout_s if is_late else None,
        num_left=len(left),
        started=tree.started,
    )


def _end_all(directory: Path, interrupts: Interrupts) -> None:
    interrupts.ignore()  # nothing may keep us from ending what we started
    end_processes(directory, grace_s=_GRACE_S)


def _signal_of(asked: KeyboardInterrupt | SystemExit) -> signal.Signals:
    """The signal that asked us to end; the command line turns it into an exit with 128 and its number."""
    if isinstance(asked, KeyboardInterrupt):
        return signal.SIGINT
    if not isinstance(asked.code, int) or asked.code <= 128:
        raise asked
    return signal.Signals(asked.code - 128)


def _pass_on(number: signal.Signals, process: subprocess.Popen[bytes]) -> None:
    """Let the command end as it would without us; once more, and it is not waited for."""
    if not (number == signal.SIGINT and _is_in_front()):
        process.send_signal(number)
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
        process.wait(_GRACE_S)


def _is_in_front() -> bool:
    """Whether we run in a terminal's foreground, with the command: Ctrl-C has then reached both."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
