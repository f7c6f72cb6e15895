"""Compile the CUDA stand-ins into one shared library, with a compiler that pip can install.

The C sources are in `csrc/`. Functions written there win; every other name that the CUDA libraries export
(`csrc/names/`) gets a weak body that answers "not supported" and remembers its name, so a function we lack is
an error that says which, never a failed import. The same library is reached under the names of the driver and
of NVML (`LINK_NAMES`) through symbolic links that a machine's directory holds: links, since two copies would
be two libraries, each with memory of its own.
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
        generated = Path(scratch) / "unknown.c"
        generated.write_text(unknown_functions())
        library = Path(scratch) / LIBRARY_NAME
        _compile([*sorted(SOURCES.glob("*.c")), generated], library)
        _install(library, directory)
    return directory / LIBRARY_NAME


def unknown_functions() -> str:
    """C source with a weak body for every function name of the CUDA libraries."""
    lines = ['#include "state.h"', "#define WEAK __attribute__((weak)) int"]
    for names in sorted((SOURCES / "names").glob("*.txt")):
        status = NOT_SUPPORTED[names.stem]
        for name in names.read_text().split():
            if SUCCEEDS.fullmatch(name):
                body = "return 0;"
            else:
                body = f'vgpu_note_unknown("{name}"); return {status};'
            lines.append(f"WEAK {name}(void) {{ {body} }}")
    return "\n".join(lines) + "\n"


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
