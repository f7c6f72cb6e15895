"""What C headers say: struct layouts and enumerations, read by compiling a small program against them."""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.virtual.build import _compiler

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Layout:
    """A struct: its size, and every field's offset and size, in bytes."""

    size: int
    fields: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def compile_layouts(
    directory: Path, header: str, structs: Mapping[str, Sequence[str]], *, include: Iterable[Path]
) -> dict[str, Layout]:
    """The layouts of these structs of a header, and of the fields named."""
    lines = []
    for struct, names in structs.items():
        label = struct.removeprefix("struct ")
        lines.append(f'printf("{label} %zu\\n", sizeof({struct}));')
        for name in names:
            place = f"offsetof({struct}, {name}), sizeof((({struct} *)0)->{name})"
            lines.append(f'printf("{label} {name} %zu %zu\\n", {place});')
    return parse_layouts(_run(directory, header, lines, include=include))


def compile_constants(
    directory: Path, header: str, names: Iterable[str], *, include: Iterable[Path]
) -> dict[str, int]:
    """The values of these enumerators of a header."""
    lines = [f'printf("{name} %d\\n", (int){name});' for name in names]
    output = _run(directory, header, lines, include=include)
    return {name: int(value) for name, value in map(str.split, output.splitlines())}


def parse_layouts(text: str) -> dict[str, Layout]:
    """Layouts as `compile_layouts` prints them: `struct size`, and `struct field offset size`."""
    layouts: dict[str, Layout] = {}
    for line in text.splitlines():
        match line.split():
            case [struct, size] if not struct.startswith("#"):
                layouts[struct] = Layout(int(size), {})
            case [struct, name, offset, size] if not struct.startswith("#"):
                layouts[struct] = Layout(
                    layouts[struct].size, {**layouts[struct].fields, name: (int(offset), int(size))}
                )
    return layouts


def cuda_include_directories() -> list[Path]:
    """Where the headers of the installed CUDA 13 lie; Triton brings those its own wheel leaves out."""
    nvidia = importlib.util.find_spec("nvidia")
    triton = importlib.util.find_spec("triton")
    if nvidia is None or triton is None or not nvidia.submodule_search_locations or triton.origin is None:
        pytest.skip("no CUDA headers are installed")
    runtime = Path(nvidia.submodule_search_locations[0]) / "cu13" / "include"
    rest = Path(triton.origin).parent / "backends" / "nvidia" / "include"
    if not (runtime / "driver_types.h").is_file() or not rest.is_dir():
        pytest.skip("the headers of CUDA 13 are not installed")
    return [runtime, rest]


def _run(directory: Path, header: str, lines: Iterable[str], *, include: Iterable[Path]) -> str:
    source, program = directory / "probe.c", directory / "probe"
    body = "\n".join(lines)
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{header}"\nint main(void) {{\n{body}\n}}\n'
    )
    paths = [f"-I{path}" for path in include]
    subprocess.run([*_compiler(), "-w", *paths, str(source), "-o", str(program)], check=True, timeout=120)
    return subprocess.run([str(program)], check=True, capture_output=True, text=True, timeout=10).stdout
