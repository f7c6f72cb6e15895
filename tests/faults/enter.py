"""Between two namespaces: makes the private disks and the card, then becomes the saboteur."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from profiler.hardware.catalogue import find_gpu
from profiler.virtual.launch import launch_machine
from tests.faults.disks import HOME, mount_disks
from tests.faults.shim import build_shim

_AS_A_WORKER = {
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""What forks of the saboteur would find set if they were executed."""


def main(order: str) -> None:
    """Does not return."""
    mount_disks(Path(json.loads(order)["home"]))
    machine = launch_machine(HOME / "machine", find_gpu("rtx-4090"))
    environ = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    environ = machine.environment(environ) | _AS_A_WORKER
    environ["LD_PRELOAD"] = f"{build_shim(HOME)} {environ['LD_PRELOAD']}"
    os.execve(sys.executable, [sys.executable, "-m", "tests.faults.saboteur", order], environ)


if __name__ == "__main__":
    main(sys.argv[1])
