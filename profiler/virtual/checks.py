"""Whether a flag that the host reads decides of an error, and which answer avoids it: found in the bytecode.

`if not (a >= b).all(): raise`, an `assert`, a check of torch's own, a helper that returns the flag to any of
these: a run that works passes such a check. The frame that asks stands at the call, or at the jump, that the
flag goes to.
"""

from __future__ import annotations

import dis
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import CodeType, FrameType

_KEEPS = {"NOP", "EXTENDED_ARG", "CACHE", "NOT_TAKEN", "TO_BOOL"}
_RETURNS = "RETURN_VALUE"
_ENDS = {_RETURNS, "RETURN_CONST", "YIELD_VALUE", "RERAISE", "SEND"}
_STEERING = {"StopIteration", "StopAsyncIteration", "KeyboardInterrupt", "SystemExit"}
"""Exceptions that end something which went well."""
_TAKEN_ON = "_check_tensor_all_with"
"""torch's function that hands a flag on to one which raises an error."""
_CHECKERS = {"_check", "_check_index", "_check_value", "_check_type", "_check_not_implemented", "_check_with"}
"""torch's functions that raise an error unless a flag is true."""
_CALLS = {"PRECALL", "CALL", "CALL_KW"}
_LOADS_CALLEE = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF", "LOAD_ATTR", "LOAD_METHOD"}
_MAX_HELPERS = 8


def passing_answer(frame: FrameType | None) -> bool | None:
    """The answer to a flag's reader with which it goes on, where the other one leads to an error.

    Args:
        frame: the one that reads the flag, as it runs.
    """
    is_negated = False
    for _ in range(_MAX_HELPERS):
        if frame is None:
            return None
        if frame.f_code.co_name == _TAKEN_ON and frame.f_code.co_filename.endswith("/torch/__init__.py"):
            return True
        use = _use(frame.f_code, frame.f_lasti)
        is_negated ^= use.is_negated
        if not use.is_returned:
            return None if use.passes is None else use.passes ^ is_negated
        frame = frame.f_back
    return None


class _Use(NamedTuple):
    """What becomes of a flag: whether it is negated, then returned, or which value of it avoids an error."""

    is_negated: bool
    is_returned: bool = False
    passes: bool | None = None


@lru_cache(maxsize=1024)
def _use(code: CodeType, offset: int) -> _Use:
    flow = _Flow(code)
    index = flow.index_at(offset)
    is_negated = False
    # A call has just made the flag; a test or a negation is at work on it.
    if not _is_test(flow.listing[index].opname) and flow.listing[index].opname not in {*_KEEPS, "UNARY_NOT"}:
        index += 1
    while index < len(flow.listing):
        instruction = flow.listing[index]
        name = instruction.opname
        if name == _RETURNS:
            return _Use(is_negated=is_negated, is_returned=True)
        if _is_test(name):
            return _Use(is_negated=is_negated, passes=flow.passing_value(index))
        if name == "UNARY_NOT":
            is_negated = not is_negated
        elif (skipped := flow.skip_neutral(index)) is not None:
            index = skipped
            continue
        elif flow.is_handed_to_checker(index):
            return _Use(is_negated=is_negated, passes=True)
        else:
            break
        index += 1
    return _Use(is_negated=is_negated)


def _is_test(name: str) -> bool:
    """Whether an instruction jumps by the truth of what it takes off the stack."""
    return name.startswith("POP_JUMP") and name.endswith(("IF_TRUE", "IF_FALSE"))


class _Flow:
    """Where the instructions of some code lead."""

    def __init__(self, code: CodeType) -> None:
        self.listing = list(dis.get_instructions(code))
        self._indices = {instruction.offset: index for index, instruction in enumerate(self.listing)}
        bytecode: Any = dis.Bytecode(code)
        self._handlers = bytecode.exception_entries

    def index_at(self, offset: int) -> int:
        """Of the instruction there; of a call, f_lasti may lie within what belongs to it."""
        return next(i for i in reversed(range(len(self.listing))) if self.listing[i].offset <= offset)

    def skip_neutral(self, index: int) -> int | None:
        """Past what leaves a flag's truth as it is: a call of `bool`, or a name given to it and taken up."""
        instruction = self.listing[index]
        if instruction.opname in _KEEPS:
            return index + 1
        if instruction.opname in ("PRECALL", "CALL") and instruction.arg == 1 and self._calls_bool(index):
            return index + 1 + (instruction.opname == "PRECALL")
        following = self.listing[index + 1] if index + 1 < len(self.listing) else None
        if instruction.opname == "STORE_FAST_LOAD_FAST":
            return index + 1 if len({*instruction.argval}) == 1 else None
        is_taken_up = (
            instruction.opname.startswith("STORE_")
            and following is not None
            and following.opname.startswith("LOAD_")
            and following.argval == instruction.argval
        )
        return index + 2 if is_taken_up else None

    def _calls_bool(self, index: int) -> bool:
        return self._callee(index) == "bool"

    def is_handed_to_checker(self, index: int) -> bool:
        """Whether a flag on the stack becomes an argument of a check of torch, whose others are no flags."""
        num_above = 0
        while index < len(self.listing):
            instruction = self.listing[index]
            num_taken = (instruction.arg or 0) + (instruction.opname == "CALL_KW")  # and the keywords' names
            if instruction.opname in _CALLS and num_taken > num_above:
                return self._callee(index) in _CHECKERS
            if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
                return False
            num_above += dis.stack_effect(instruction.opcode, instruction.arg)
            if num_above < 0:  # something else took it
                return False
            index += 1
        return False

    def _callee(self, index: int) -> str | None:
        """The name of a call's function: what was loaded last where the call's own text begins."""
        place = self.listing[index].positions
        if place is None or place.col_offset is None:
            return None
        names = [
            str(other.argval)
            for other in self.listing[:index]
            if other.opname in _LOADS_CALLEE
            and other.positions is not None
            and (other.positions.lineno, other.positions.col_offset) == (place.lineno, place.col_offset)
        ]
        return names[-1] if names else None

    def passing_value(self, index: int) -> bool | None:
        """The value that a test goes on with, if the other one leads to an error and this does not."""
        jump = self.listing[index]
        value_that_jumps = jump.opname.endswith("IF_TRUE")
        fails_if_jumping = self._raises(self._indices[jump.argval])
        if fails_if_jumping == self._raises(index + 1):
            return None
        return value_that_jumps ^ fails_if_jumping

    def _raises(self, start: int) -> bool:
        """Whether each way from an instruction on ends in an error that is not handled here."""
        waiting, seen = [start], set[int]()
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            following = self._following(index)
            if following is None:
                return False
            waiting += following
        return True

    def _following(self, index: int) -> list[int] | None:
        """What comes after an instruction; nothing after an error; None where all may go well."""
        instruction = self.listing[index] if index < len(self.listing) else None
        if instruction is None or instruction.opname in _ENDS or instruction.argval in _STEERING:
            return None
        if instruction.opname == "RAISE_VARARGS":
            return None if self._is_handled(instruction.offset) else []
        if instruction.opcode not in dis.hasjrel and instruction.opcode not in dis.hasjabs:
            return [index + 1]
        target = self._indices[instruction.argval]
        if target <= index:  # a loop
            return None
        return [target] if instruction.opname.startswith("JUMP_FORWARD") else [index + 1, target]

    def _is_handled(self, offset: int) -> bool:
        """Whether an `except` of this code may take an error raised there; the end of a `with` does not."""
        seen = set[int]()
        while True:
            entry = next((e for e in self._handlers if e.start <= offset < e.end), None)
            if entry is None or entry.target in seen:
                return False
            seen.add(offset := entry.target)
            if self._takes_errors(self._indices[offset]):
                return True

    def _takes_errors(self, index: int) -> bool:
        names = [instruction.opname for instruction in self.listing[index:]]
        ends = ("CHECK_EXC_MATCH", "POP_EXCEPT", "RERAISE")
        return names[0] == "PUSH_EXC_INFO" and next((n for n in names if n in ends), "RERAISE") != "RERAISE"
