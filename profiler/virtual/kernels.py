"""What Triton's kernels write: they reach the card past torch's operators, and nothing on it is computed.

Where a kernel would write to a tensor whose values are known, they are known no longer. What a kernel of a
script's own writes, torch finds in its code, as it does to compile it. Kernels that torch has made tell by
the names of their arguments.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual import torch_private as private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from profiler.virtual.table import KnownStorages

    Named = dict[str, Any]

_IS_READ = ("in_ptr", "arg_")
"""How the arguments of torch's own kernels begin that are only read, unless they are listed as written."""


@contextmanager
def watched_kernels(known: KnownStorages) -> Iterator[None]:
    """While this lasts, what Triton's kernels write is no longer known.

    Triton is imported when it is first needed, which is often later.
    """
    written: dict[Any, frozenset[str]] = {}

    def of_scripts(kernel: Any, args: Sequence[Any], named: Mapping[str, Any]) -> list[torch.Tensor]:
        bound = _bound(kernel, args, named)
        if not any(map(known.has, _tensors(bound))):
            return []
        key = (kernel, *(str(bound[p.name]) for p in kernel.params if p.is_constexpr))
        if key not in written:
            with private.WITHOUT_MODES.find()():
                written[key] = _written(kernel, bound)
        return _tensors({name: bound[name] for name in written[key]})

    watches = {
        "triton.runtime.jit": ("JITFunction", of_scripts),
        private.COMPILED_KERNEL.module: (private.COMPILED_KERNEL.name.partition(".")[0], _of_compiled),
    }
    with ExitStack() as patches:

        def watch(module: ModuleType) -> None:
            name, find = watches[module.__name__]
            kind = getattr(module, name)
            patches.enter_context(private.replaced(kind, "run", _forgetting(kind.run, find, known)))

        patches.enter_context(told_of_imports(watches, watch))
        yield


def _forgetting(
    run: Callable[..., Any],
    find: Callable[[Any, Sequence[Any], Named], list[torch.Tensor]],
    known: KnownStorages,
) -> Callable[..., Any]:
    @wraps(run)
    def run_and_forget(kernel: Any, *args: Any, **named: Any) -> Any:
        if not named.get("warmup"):
            known.drop(find(kernel, args, named))
        return run(kernel, *args, **named)

    return run_and_forget


def _of_compiled(kernel: Any, args: Sequence[Any], named: Mapping[str, Any]) -> list[torch.Tensor]:
    """What a kernel writes that `torch.compile` has made."""
    bound = dict(zip(kernel.fn.arg_names, args, strict=False)) | dict(named)
    changed = kernel.mutated_arg_names
    return _tensors({n: value for n, value in bound.items() if n in changed or not n.startswith(_IS_READ)})


def _written(kernel: Any, bound: Named) -> frozenset[str]:
    """The names of what a kernel writes; of all that it is given where its code does not tell."""
    if (find := private.KERNEL_WRITES.find_if_there()) is not None:  # looked up late: it imports much
        names = find(kernel, *(bound, {})[: len(signature(find).parameters) - 1])
    else:
        accesses = private.KERNEL_ACCESSES.find()(kernel, bound, {})
        names = [access.name for access in accesses.read_writes.writes]
    return frozenset(names)


def _bound(kernel: Any, args: Sequence[Any], named: Mapping[str, Any]) -> Named:
    """Every argument of a kernel by its name, without the options of its launch."""
    parameters = kernel.signature.parameters
    bound = {n: p.default for n, p in parameters.items() if p.default is not Parameter.empty}
    bound |= zip(kernel.arg_names, args, strict=False)
    return bound | {name: value for name, value in named.items() if name in parameters}


def _tensors(named: Mapping[str, Any]) -> list[torch.Tensor]:
    return [value for value in named.values() if isinstance(value, torch.Tensor) and value.is_cuda]


@contextmanager
def told_of_imports(names: Iterable[str], tell: Callable[[ModuleType], None]) -> Iterator[None]:
    """While this lasts, `tell` is called with each of these modules, as it is imported or at once."""
    imported = {*names} & sys.modules.keys()
    finder: Any = _Finder({*names} - imported, tell)
    sys.meta_path.insert(0, finder)
    try:
        for name in imported:
            tell(sys.modules[name])
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds nothing itself; tells of modules once they have been imported.

    As `profiler.follow.hook` waits for torch; that file is copied alone and can import nothing of ours.
    """

    def __init__(self, names: Iterable[str], tell: Callable[[ModuleType], None]) -> None:
        self._waiting = set(names)
        self._looking: set[str] = set()
        self._tell = tell

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The real specification of a module that is waited for; None for all else."""
        if name not in self._waiting or name in self._looking:
            return None
        self._looking.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking.remove(name)
        if spec is not None and spec.loader is not None:
            self._tell_of(spec.loader)
        return spec

    def _tell_of(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            if module.__name__ in self._waiting:
                self._waiting.remove(module.__name__)
                self._tell(module)

        loader.exec_module = exec_module
