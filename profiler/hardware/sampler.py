"""How much of a real card was used at the highest moment, sampled in the background through NVML."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Self

import pynvml

from profiler.hardware.nvml import explain, open_nvml

if TYPE_CHECKING:
    from types import TracebackType

    from profiler.hardware.nvml import RealGpu
    from profiler.hardware.readings import GpuReader

INTERVAL_S = 0.010


class UsedMemorySampler:
    """Samples one card while a `with` block lasts; the figures are sampled, so a shorter peak can be missed.

    Counts, peaks and gaps are since the last `reset_peak` (or the start). What one process uses is not always
    told (WSL, a container with process ids of its own): `process_peak_bytes` is then None, and the card's
    used memory less `baseline_bytes` stands in for it, on a card that nobody else uses.
    """

    def __init__(self, gpu: RealGpu, *, pid: int | None = None, interval_s: float = INTERVAL_S) -> None:
        """Watches `gpu`, and on it the process `pid`: this one if none is given."""
        self._gpu = gpu
        self._pid = os.getpid() if pid is None else pid
        self._interval_s = interval_s
        self._lock = Lock()
        self._stop = Event()
        self._open = ExitStack()
        self._reader: GpuReader | None = None
        self._thread = Thread(target=self._run, name="peakvram-nvml", daemon=True)
        self._last_sample_s: float | None = None
        self.baseline_bytes: int | None = None
        """Used at the first sample: the idle card, if sampling began before this process's CUDA context."""
        self.peak_bytes: int | None = None
        """The card's used memory at its highest sample; None before the first one."""
        self.process_peaks: dict[int, int] = {}
        """Each compute process's memory at its highest sample; without those the driver does not tell of."""
        self.num_samples = 0
        self.longest_gap_s = 0.0
        """The longest time between two samples: how short a peak can have gone unseen."""
        self.num_errors = 0
        """How many samples failed since the start, and were passed over."""
        self.problem: str | None = None
        """What the last failed sample failed of; a lost card ends the sampling."""
        self.is_lost = False

    def __enter__(self) -> Self:
        """Opens NVML, takes the first sample and starts the thread.

        Raises:
            EnvironmentUnfitError: NVML cannot be opened or no longer knows the card.
        """
        with ExitStack() as opening:
            # NVML is opened once more for this thread's sake: shut down under a call, it would crash.
            self._reader = opening.enter_context(open_nvml()).read(self._gpu)
            self._open = opening.pop_all()
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the thread; what was sampled stays readable."""
        self._stop.set()
        self._thread.join()
        self._reader = None
        self._open.close()

    @property
    def process_peak_bytes(self) -> int | None:
        """The process's memory at its highest sample; None where the driver does not tell."""
        return self.process_peaks.get(self._pid)

    def sample(self) -> None:
        """Takes one sample now. Called at the end of each phase, so that none is without."""
        with self._lock:
            self._sample()

    def reset_peak(self) -> None:
        """Starts counts, peaks and gaps anew, from a sample taken now."""
        with self._lock:
            self.peak_bytes = None
            self.process_peaks = {}
            self.num_samples, self.longest_gap_s = 0, 0.0
            self._last_sample_s = None
            self._sample()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s) and not self.is_lost:
            self.sample()

    def _sample(self) -> None:
        if self._reader is None or self.is_lost:
            return
        try:
            used_bytes = self._reader.memory().used_bytes
            processes = self._reader.process_bytes()
        except pynvml.NVMLError as error:
            self.num_errors += 1
            self.problem = explain(error).message
            self.is_lost = error.value == pynvml.NVML_ERROR_GPU_IS_LOST
            return
        now_s = time.monotonic()
        if self._last_sample_s is not None:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._last_sample_s)
        self._last_sample_s = now_s
        self.num_samples += 1
        if self.baseline_bytes is None:
            self.baseline_bytes = used_bytes
        self.peak_bytes = max(used_bytes, self.peak_bytes or 0)
        for pid, process_bytes in processes.items():
            self.process_peaks[pid] = max(process_bytes, self.process_peaks.get(pid, 0))
