"""Compile the CUDA stand-ins into one shared library, with a compiler that pip can install.

The C sources are in `csrc/`. Functions written there win; every other name that the CUDA libraries export
(`csrc/names/`) gets a weak body that answers "not supported" (zero, of its type, where it tells no status)
and remembers its name, so a function we lack is an error that says which, never a failed import. The same
library is reached under the names of the driver and of NVML (`LINK_NAMES`) through symbolic links that a
machine's directory holds: links, since two copies would be two libraries, each with memory of its own.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
LIBRARY_NAME = "libpeakvram_vgpu.so"
LINK_NAMES = ("libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1")
# Old enough for every distribution that a current PyTorch wheel (manylinux_2_28) runs on.
GLIBC = "2.28"

# What an unimplemented function returns, by library: cudaErrorNotSupported, CUBLAS_STATUS_NOT_SUPPORTED,
# CUDA_ERROR_NOT_SUPPORTED, CUDNN_STATUS_NOT_SUPPORTED, CUSOLVER_STATUS_NOT_SUPPORTED, CUFFT_NOT_SUPPORTED,
# CUSPARSE_STATUS_NOT_SUPPORTED.
NOT_SUPPORTED = {
    **{"cudart": 801, "cublas": 15, "cublaslt": 15, "cuda": 801, "cudnn": 3000},
    **{"cusolver": 9, "cufft": 16, "cusparse": 10},
}

# cuBLAS functions without an answer for the host: setting a handle up, and products that run on the card.
SUCCEEDS = re.compile(
    r"cublas(?:Set\w+|Destroy\w*"
    r"|[SDCZ][a-z]\w*?(?:_v2)?(?:_64)?|Gemm\w*Ex(?:_64)?|[SC]gemm\w*Ex(?:_64)?|DotEx|\w+Batched\w*"
    r"|Lt(?:Destroy|Matmul|MatmulAlgoInit|MatrixTransform|\w+(?:Destroy|SetAttribute|GetAttribute)))"
)
# What those check, which is what they take first. The others have no handle, as all of the first cuBLAS.
CHECKS = {
    "vgpu_check_blas_lt": re.compile(r"cublasLt(?:Matmul|MatmulAlgoInit|MatrixTransform)"),
    "vgpu_check_blas_description": re.compile(r"cublasLtMat\w+(?:SetAttribute|GetAttribute)"),
    "vgpu_check_blas": re.compile(
        r"cublas(?!Lt|Set(?:Vector|Matrix|KernelStream|LoggerCallback|Backdoor|EnvironmentMode))\w+"
    ),
}

# Functions that answer something else than a status; one that we lack answers zero.
TYPES = {
    "float": re.compile(r"cublasS(?:dot|c?asum|c?nrm2)"),
    "double": re.compile(r"cublasD(?:dot|z?asum|z?nrm2)"),
    "float _Complex": re.compile(r"cublasCdot[cu]"),
    "double _Complex": re.compile(r"cublasZdot[cu]"),
    "size_t": re.compile(r"cublasGetCudartVersion|cudnnGetMaxDeviceVersion"),
    "unsigned": re.compile(
        r"cublasI[sdcz]am(?:ax|in)|cusparseGetMat\w+|cublasLtDisableCpuInstructionsSetMask"
    ),
    "void": re.compile(r"cublasXerbla|__cudaRegister\w+"),
}


class CompilationError(RuntimeError):
    """The stand-in could not be compiled; the message carries the compiler's own."""


def build(directory: Path) -> Path:
    """Compile the library into `directory`. Returns its path.

    Raises:
        CompilationError: no compiler, or it failed.
    """
    if sys.platform != "linux":
        raise CompilationError(f"the virtual GPU needs Linux; this is {sys.platform}")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="peakvram-build-") as scratch:
        library = Path(scratch) / LIBRARY_NAME
        _compile(write_sources(Path(scratch)), library)
        _install(library, directory)
    return directory / LIBRARY_NAME


def write_sources(directory: Path) -> list[Path]:
    """All C sources of the library; the generated one is written to `directory`."""
    generated = directory / "unknown.c"
    generated.write_text(unknown_functions())
    return [*sorted(SOURCES.glob("*.c")), generated]


def unknown_functions() -> str:
    """C source with a weak body for every function name of the CUDA libraries."""
    lines = ["#include <stddef.h>", '#include "state.h"', "#define WEAK __attribute__((weak))"]
    lines += [f"int {check}(const void *);" for check in CHECKS]
    for path in sorted((SOURCES / "names").glob("*.txt")):
        names = path.read_text().split()
        superseded = {name.replace("_v2", "") for name in names if "_v2" in name}
        for name in names:
            check = _check_of(name) if name not in superseded else None
            lines.append(_body(name, check, status=NOT_SUPPORTED[path.stem]))
    return "\n".join(lines) + "\n"


def _check_of(name: str) -> str | None:
    return next((check for check, pattern in CHECKS.items() if pattern.fullmatch(name)), None)


def _body(name: str, check: str | None, *, status: int) -> str:
    kind = next((kind for kind, pattern in TYPES.items() if pattern.fullmatch(name)), None)
    if SUCCEEDS.fullmatch(name) and kind is None:
        if check is None:
            return f"WEAK int {name}(void) {{ return 0; }}"
        return f"WEAK int {name}(const void *handle) {{ return {check}(handle); }}"
    answer = status if kind is None else "" if kind == "void" else 0
    return f'WEAK {kind or "int"} {name}(void) {{ vgpu_note_unknown("{name}"); return {answer}; }}'


def _compile(sources: list[Path], library: Path) -> None:
    command = [
        *_compiler(),
        *["-std=gnu11", "-O2", "-g0", "-fPIC", "-shared"],
        "-s",  # the C library's start files bring the paths of this machine with them
        *["-fvisibility=default", "-fno-builtin", "-fno-sanitize=all"],
        *["-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", f"-Wl,-soname,{LIBRARY_NAME}"],
        *map(str, sources),
        *["-o", str(library), "-lpthread", "-ldl"],
    ]
    # A compiler cache beside the build keeps a read-only or missing home directory from mattering.
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(library.parent / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise CompilationError(f"compiling the virtual GPU failed:\n{done.stderr.strip()}")


def _compiler() -> list[str]:
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-gnu.{GLIBC}"]
    for name in ("cc", "gcc", "clang"):
        if (path := shutil.which(name)) is not None:
            return [path]
    raise CompilationError("no C compiler: `pip install ziglang` brings one")


def _install(library: Path, directory: Path) -> None:
    # By rename, so that a process which has the old library mapped keeps it whole.
    partial = directory / f".{LIBRARY_NAME}.{os.getpid()}"
    shutil.copy2(library, partial)
    partial.replace(directory / LIBRARY_NAME)


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(__file__).parent / 'lib')}\n")
