"""What the installed libraries import from CUDA, the stand-in exports: a missing name is a failed import."""

from __future__ import annotations

import importlib.util
import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile

from profiler.virtual.build import NOT_SUPPORTED, SOURCES
from profiler.virtual.state import library_path

if TYPE_CHECKING:
    from collections.abc import Iterator

# By the library a symbol's version names; those of the driver, cuDNN and NCCL carry none: there by prefix.
REPLACED = (
    *("libcudart.so", "libcublas.so", "libcublasLt.so", "libcuda.so", "libcudnn.so", "libnccl.so"),
    *("libcusolver.so", "libcufft.so", "libcusparse.so"),
)
# Left to the real libraries behind the stand-in, which need no card for it: torch compares cuDNN's version
# with the one it was built for, and quotes what cuSPARSE says of an error.
LEFT_TO_THE_REAL = {"cudnnGetVersion", "cudnnGetCudartVersion", "cudnnGetProperty", "cusparseGetErrorString"}
UNDEFINED = 0


def test_every_function_the_installed_libraries_import_is_exported() -> None:
    needed = {library.name: _imported(library) - _exported() - LEFT_TO_THE_REAL for library in _clients()}
    assert {library: names for library, names in needed.items() if names} == {}


def test_the_imports_are_found() -> None:
    found = {library.name: _imported(library) for library in _clients()}
    assert {"cudaMalloc", "cublasGemmEx", "cublasLtMatmul", "cudnnBackendExecute"} <= found[
        "libtorch_cuda.so"
    ]
    assert "cufftXtExec" in found["libtorch_cuda.so"]
    assert "cusolverDnCreate" in found["libtorch_cuda_linalg.so"]
    assert "cuModuleLoadData" in found["libcaffe2_nvrtc.so"]
    assert any("cudaMallocManaged" in names for name, names in found.items() if "bitsandbytes" in name)
    assert any("cublasSgemm_v2" in names for name, names in found.items() if "cusolver" in name)


@pytest.mark.parametrize("library", NOT_SUPPORTED)
def test_every_listed_name_is_exported(library: str) -> None:
    names = (SOURCES / "names" / f"{library}.txt").read_text().split()
    assert len(names) == len(set(names)) > 50
    assert set(names) <= _exported()


def _clients() -> list[Path]:
    """Shared libraries that may be loaded beside the stand-in, the replaced ones left out."""
    places = {"torch": ("lib/*.so*",), "bitsandbytes": ("*cuda*.so",), "nvidia": ("*/lib/*.so*",)}
    found = []
    for package, patterns in places.items():
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        root = Path(spec.submodule_search_locations[0])
        found += [path for pattern in patterns for path in root.glob(pattern)]
    # Of bitsandbytes' libraries, the one for this CUDA; nvBLAS is never loaded.
    return [
        path
        for path in found
        if not path.name.startswith((*REPLACED, "libcudnn_", "libnvblas"))
        and ("bitsandbytes" not in path.name or path.name == _bitsandbytes_library())
    ]


def _bitsandbytes_library() -> str:
    import torch

    assert torch.version.cuda is not None
    return f"libbitsandbytes_cuda{torch.version.cuda.replace('.', '')}.so"


@cache
def _imported(path: Path) -> frozenset[str]:
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        versions = _needed_versions(elf)
        needs = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        uses_driver = any(name.startswith("libcuda.so") for name in needs)
        return frozenset(
            name
            for name, section, version in _symbols(elf)
            if section == UNDEFINED
            and (
                versions.get(version, "").startswith(REPLACED)
                or name.startswith(("cudnn", "nccl"))
                or (uses_driver and name.startswith("cu") and name[2].isupper())
            )
        )


@cache
def _exported() -> frozenset[str]:
    with library_path().open("rb") as file:
        return frozenset(name for name, section, _ in _symbols(ELFFile(file)) if section != UNDEFINED)


def _symbols(elf: Any) -> Iterator[tuple[str, int, int]]:
    """Of each dynamic symbol its name, section and version; read in one piece, for there are 10^5."""
    section = elf.get_section_by_name(".dynsym")
    names = elf.get_section(section["sh_link"]).data()
    version_section = elf.get_section_by_name(".gnu.version")
    entries = struct.iter_unpack("<IBBHQQ", section.data())
    numbers = (
        struct.iter_unpack("<H", version_section.data()) if version_section else iter(lambda: (0,), None)
    )
    for (at, _, _, where, _, _), (number,) in zip(entries, numbers, strict=False):
        yield names[at : names.index(b"\0", at)].decode(), where, number & 0x7FFF


def _needed_versions(elf: Any) -> dict[int, str]:
    section = elf.get_section_by_name(".gnu.version_r")
    if section is None:
        return {}
    return {
        auxiliary["vna_other"]: auxiliary.name
        for _, of_file in section.iter_versions()
        for auxiliary in of_file
    }
