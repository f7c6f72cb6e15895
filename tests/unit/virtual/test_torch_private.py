"""torch's private names: in one module, there in the installed torch, else missed aloud."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.virtual.torch_private import (
    IN_BAD_FORK,
    NAMES,
    VERSIONS,
    PrivateName,
    list_lost,
    replaced,
)
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADAPTER = ROOT / "profiler/virtual/torch_private.py"
OWN = {part for name in NAMES for part in name.name.split(".") if re.match(r"_[a-zA-Z]", part)}
"""What torch calls them, without where they are."""
DOTTED = re.compile(r"\btorch(\.\w+)*\._[a-z]")


def private_names_in(path: Path) -> Iterator[str]:
    """Each place of a file that names what torch keeps to itself: imported, asked for, or in a string."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] == "torch":
                dotted = [f"{module}.{alias.name}" for alias in names]
            case ast.Import(names=names):
                dotted = [alias.name for alias in names]
            case ast.Attribute(attr=attribute, value=owner):
                is_own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
                dotted = [f"torch.{attribute}"] if attribute in OWN and not is_own else [ast.unparse(node)]
            case ast.Constant(value=str(text)):
                dotted = [f"torch.{text}"] if text in OWN else [text]
            case _:
                continue
        yield from (f"{path.name}:{node.lineno} {name}" for name in dotted if DOTTED.search(name))


def test_no_other_file_names_what_torch_keeps_to_itself() -> None:
    files = [path for path in sorted((ROOT / "profiler").rglob("*.py")) if path != ADAPTER]
    assert [place for path in files for place in private_names_in(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "from torch._C import _get_dispatch_mode",
        "from torch.utils._python_dispatch import TorchDispatchMode",
        "import torch._inductor",
        "torch.cuda._is_in_bad_fork()",
        "func._schema.name",
        'getattr(torch.autograd, "_engine_run_backward")',
        'import_module("torch._higher_order_ops.triton_kernel_wrap")',
    ],
)
def test_each_way_to_name_it_is_seen(line: str, tmp_path: Path) -> None:
    path = tmp_path / "named.py"
    path.write_text(line)
    assert list(private_names_in(path))


def test_each_is_named_once() -> None:
    assert len({(name.module, name.name) for name in NAMES}) == len(NAMES)
    assert all(name.purpose and name.seen for name in NAMES)


def test_the_installed_torch_has_them_all() -> None:
    assert list_lost() == []


def test_a_name_is_lost_where_the_releases_around_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cuda, "_is_in_bad_fork")
    assert list_lost() == [IN_BAD_FORK]
    with pytest.raises(ImportError, match=r"no torch\.cuda\._is_in_bad_fork \(whether jobs can be forked"):
        IN_BAD_FORK.find()
    assert IN_BAD_FORK.find_if_there() is None


@pytest.mark.parametrize(
    ("version", "num_lost"), [("2.4.0", 1), ("2.4.1+cu121", 1), ("2.9.0", 0), ("2.14.1", 1), ("2.15.0a0", 1)]
)
def test_between_two_releases_a_name_of_one_may_be_there_or_not(
    monkeypatch: pytest.MonkeyPatch, version: str, num_lost: int
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    is_old = version.startswith("2.4")
    seen = VERSIONS[:1] if is_old else VERSIONS[-1:]
    gone = PrivateName("torch", "_nowhere", "nothing", seen)
    monkeypatch.setattr("profiler.virtual.torch_private.NAMES", (gone,))
    assert len(list_lost()) == num_lost


class _Owner:
    @staticmethod
    def of_class() -> str:
        return "own"


class _Heir(_Owner):
    pass


@pytest.mark.parametrize("owner", [_Owner, _Heir])
def test_what_was_replaced_is_put_back_as_it_lay_there(owner: type[_Owner]) -> None:
    before: dict[str, Any] = dict(vars(owner))
    with pytest.raises(KeyError), replaced(owner, "of_class", staticmethod(lambda: "other")):  # noqa: PT012
        assert owner().of_class() == "other"
        raise KeyError
    assert dict(vars(owner)) == before
    assert owner().of_class() == "own"
