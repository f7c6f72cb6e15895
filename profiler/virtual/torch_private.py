"""torch's private names that this package uses: each once, what for, and which torch was seen to have it.

Any release of torch may lose one. It is missed as it is looked up, and `list_lost` tells `doctor` of all. Hot
code looks up what it needs as it is imported. No other module of ours names what torch keeps to itself.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import torch
    import torch._ops
    import torch.utils._python_dispatch

    OpOverload = torch._ops.OpOverload
    TorchDispatchMode = torch.utils._python_dispatch.TorchDispatchMode
else:

    def __getattr__(name: str) -> Any:
        """The class that ours derives from, not before it is asked for: all that is lost can be told."""
        if name == "TorchDispatchMode":
            return DISPATCH_MODE.find()
        raise AttributeError(name)


VERSIONS = ("2.4.1", "2.14.1")
"""The releases whose names were read, the oldest first."""
_OLD, _NEW = VERSIONS[:1], VERSIONS[-1:]


class PrivateName(NamedTuple):
    """One name.

    Attributes:
        module: where it is.
        name: what it is called there, with its class before it where it has one.
        purpose: what is done with it.
        seen: those of `VERSIONS` that have it.
    """

    module: str
    name: str
    purpose: str
    seen: tuple[str, ...] = VERSIONS

    def __str__(self) -> str:
        """With what it is for, as a person is told of it."""
        return f"{self.module}.{self.name} ({self.purpose})"

    def find(self) -> Any:
        """What torch has there.

        Raises:
            ImportError: it has nothing there.
        """
        try:
            return getattr(*self._place())
        except (ImportError, AttributeError) as error:
            raise ImportError(f"this torch has no {self}; `peakvram doctor` lists all it lacks") from error

    def find_if_there(self) -> Any | None:
        """What torch has there; None in a release that has nothing."""
        with suppress(ImportError):
            return self.find()
        return None

    def replace(self, value: object) -> None:
        """Put something else in its place, for good."""
        setattr(*self._place(), value)

    def replaced(self, value: object) -> AbstractContextManager[None]:
        """Put something else in its place for a while."""
        return replaced(*self._place(), value)

    def _place(self) -> tuple[Any, str]:
        *classes, name = self.name.split(".")
        return reduce(getattr, classes, import_module(self.module)), name


_MODES = "torch.utils._python_dispatch"
DISPATCH_MODE = PrivateName(_MODES, "TorchDispatchMode", "follows every operation on a virtual card")
_OVERRIDDEN = "TorchDispatchMode."
SKIPS_DYNAMO = PrivateName(_MODES, f"{_OVERRIDDEN}_should_skip_dynamo", "for speed", _NEW)
MAKES_GUARDS = PrivateName("torch._dynamo.convert_frame", "CheckFunctionManager", "else every call compiles")
COMPILING = PrivateName("torch._dynamo.convert_frame", "input_codes", "exec: whether anything was to compile")
COMPILED = PrivateName("torch._dynamo.utils", "counters", "exec: whether anything was compiled")
IGNORES_COMPILE = PrivateName(_MODES, f"{_OVERRIDDEN}ignore_compile_internals", "else nothing compiles", _NEW)
TAKES_ALL = PrivateName(_MODES, f"{_OVERRIDDEN}supports_higher_order_operators", "flex_attention", _NEW)
CURRENT_MODE = PrivateName(_MODES, "_get_current_dispatch_mode", "whether a hook runs within the mode")
MODE_STACK = PrivateName(_MODES, "_get_current_dispatch_mode_stack", "whether ours is the only mode")
WITHOUT_MODES = PrivateName(_MODES, "_disable_current_modes", "the autograd engine runs without the mode")
PUSH_MODE = PrivateName(_MODES, "_push_mode", "a checkpoint's pack hook runs without the mode")
POP_MODE = PrivateName(_MODES, "_pop_mode", "a checkpoint's pack hook runs without the mode")
MODE_OF_KIND = PrivateName("torch._C", "_get_dispatch_mode", "whether tensors are fake, without memory")
FAKE_KIND = PrivateName("torch._C", "_TorchDispatchModeKey.FAKE", "the kind of mode that makes them")

HIGHER_ORDER_OPERATOR = PrivateName("torch._ops", "HigherOrderOperator", "operators without a schema")
SCHEMA = PrivateName("torch", "ops.aten.add.Tensor._schema", "what an operator writes, its arguments' names")
BARE_OPERATOR = PrivateName("torch", "ops.aten.add.Tensor._op", "calls an operator with less on the way")
OVERLAP = PrivateName("torch", "_debug_has_internal_overlap", "whether a tensor fills its storage")

RUN_BACKWARD = PrivateName("torch.autograd", "_engine_run_backward", "where every backward pass begins")
ENGINE = PrivateName("torch.autograd.variable", "Variable._execution_engine", "how a backward pass ends")
NODE_HOOKS = PrivateName("torch.autograd.function", "Function._register_hook", "hooks of nodes and modules")
SAVED_HOOKS = PrivateName("torch._C", "_autograd._push_saved_tensors_default_hooks", "of saved tensors")
RECOMPUTATION_HOOK = PrivateName("torch.utils.checkpoint", "_recomputation_hook", "what a checkpoint repeats")

NOT_COMPILED = PrivateName("torch._compile", "_disable_dynamo", "torch.compile passes over our hooks")
TRACING = PrivateName("torch._guards", "TracingContext", "whether a backward pass is only traced")
_HEURISTICS = "torch._inductor.runtime.triton_heuristics"
COMPILED_KERNEL = PrivateName(_HEURISTICS, "CachingAutotuner.run", "what torch.compile's kernels write")
_WRAP = "torch._higher_order_ops.triton_kernel_wrap"
KERNEL_ACCESSES = PrivateName(_WRAP, "identify_accessed_tensors", "what a script's kernel writes", _NEW)
KERNEL_WRITES = PrivateName(_WRAP, "identify_mutated_tensors", "what a script's kernel writes", _OLD)

ARCHITECTURES = PrivateName("torch._C", "_cuda_getArchFlags", "the cards that torch was built for")
CUDA_START = PrivateName("torch.cuda", "_lazy_call", "exec: when a process begins to use CUDA")
IN_BAD_FORK = PrivateName("torch.cuda", "_is_in_bad_fork", "whether jobs can be forked from a process")
DEVICE_INDEX = PrivateName("torch.cuda._utils", "_get_device_index", "exec: which card a script asks for")
_GROUPS = "torch.distributed.distributed_c10d"
NEW_GROUP = PrivateName(_GROUPS, "_new_process_group_helper", "exec: whether it needs several cards")

ALLOCATOR_SETTINGS = PrivateName("torch._C", "_accelerator_setAllocatorSettings", "refuses wrong ones", _NEW)
MEMORY_OBSERVER = PrivateName("torch._C", "_cuda_attach_out_of_memory_observer", "what the last request was")
STATISTICS = PrivateName("torch._C", "_cuda_memoryStats", "exec: what a process holds")
RESET_PEAKS = PrivateName("torch._C", "_cuda_resetPeakMemoryStats", "exec: peaks that a script resets")
RESET_ANY_PEAKS = PrivateName("torch._C", "_accelerator_resetPeakStats", "exec: the same", _NEW)
RECORD_HISTORY = PrivateName("torch.cuda.memory", "_record_memory_history", "the allocator's events")
HISTORY = PrivateName("torch.cuda.memory", "_snapshot", "the allocator's events")
DUMP_SNAPSHOT = PrivateName("torch.cuda.memory", "_dump_snapshot", "torch's own file of the highest peak")
EVENT_METADATA = PrivateName("torch.cuda.memory", "_set_memory_metadata", "explain: an event's module", _NEW)

NAMES = tuple(value for value in globals().values() if isinstance(value, PrivateName))


def list_lost() -> list[PrivateName]:
    """The names that the installed torch should have, by the releases around it, and has not."""
    import torch  # noqa: PLC0415 - who only reads the names needs none
    from torch.torch_version import TorchVersion  # noqa: PLC0415 - only where torch is

    installed = TorchVersion(torch.__version__.partition("+")[0])
    around = {*[v for v in VERSIONS if installed >= v][-1:], *[v for v in VERSIONS if installed <= v][:1]}
    return [name for name in NAMES if around <= {*name.seen} and name.find_if_there() is None]


def schema_of(operator: OpOverload) -> Any:
    """An operator's own name, and its arguments: what each is called, and whether it is written to."""
    return operator._schema


def num_writes(tensor: torch.Tensor) -> int:
    """How often it and its views were written to in place; of a tensor of inference mode nobody counts."""
    return -1 if tensor.is_inference() else tensor._version


def bare(operator: OpOverload) -> Callable[..., Any]:
    """What an operator calls in the end."""
    return operator._op


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """While this lasts, an attribute is another; then the owner's own again, or what it inherits."""
    is_own, own = name in vars(owner), vars(owner).get(name)  # as it lies there: a static method stays one
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own) if is_own else delattr(owner, name)
