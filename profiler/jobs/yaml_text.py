"""What a text in YAML says, read so that no text can make a reader fail, wait or run anything.

Values are null, truth values, numbers, texts, lists and mappings; a date stays the text it is written as.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads ten times as fast
_MAX_CHARACTERS = 2**20
_MAX_DEPTH = 50
_MAX_VALUES = 50_000
"""Of a text, each alias counted as all that it stands for. The largest file of our own has 1,700."""
_MAX_DIGITS = 40
_INT64 = range(-(2**63), 2**63)
_PREFIX = "tag:yaml.org,2002:"
_MERGE = f"{_PREFIX}merge"
_CONSTRUCTOR = SafeConstructor()
_READERS: dict[str, Callable[[yaml.ScalarNode], object]] = {
    f"{_PREFIX}null": _CONSTRUCTOR.construct_yaml_null,
    f"{_PREFIX}bool": _CONSTRUCTOR.construct_yaml_bool,
    f"{_PREFIX}int": _CONSTRUCTOR.construct_yaml_int,
    f"{_PREFIX}float": _CONSTRUCTOR.construct_yaml_float,
    f"{_PREFIX}str": _CONSTRUCTOR.construct_scalar,
    f"{_PREFIX}timestamp": _CONSTRUCTOR.construct_scalar,
    f"{_PREFIX}value": _CONSTRUCTOR.construct_scalar,
}


class YamlError(Exception):
    """A text is no YAML, or none that is read here.

    Attributes:
        problem: what is wrong.
        line: where, from 1; None where that is not known.
    """

    def __init__(self, problem: str, *, line: int | None = None) -> None:
        """Keeps the two apart, for its reader to word them."""
        super().__init__(problem)
        self.problem = problem
        self.line = line

    @property
    def place(self) -> str:
        """What stands behind the name of the text in a message."""
        return "" if self.line is None else f", line {self.line}"


def parse_yaml(text: str) -> object:
    """The one value that a text holds; None for an empty one.

    Raises:
        YamlError: it holds something else: no YAML, several documents, a key twice or one that is no single
            value, an alias of what it stands in, a tag, a number beyond 64 bits, more or deeper values
            than any file of ours.
    """
    if len(text) > _MAX_CHARACTERS:
        raise YamlError(f"holds {len(text):,} characters, more than {_MAX_CHARACTERS:,}")
    try:
        text.encode()
        return _Reader(text).read()
    except UnicodeEncodeError:
        raise YamlError("holds characters that YAML does not allow") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlError(str(error.problem or error.context), line=line) from None
    except yaml.YAMLError:
        raise YamlError("holds characters that YAML does not allow") from None


class _Reader:
    """Builds the value event by event, so that a limit ends it before anything grows beyond it."""

    def __init__(self, text: str) -> None:
        self._loader = _LOADER(text)
        self._events: Iterator[Any] = iter(self._loader.get_event, None)
        self._num_values = 0
        self._depth = 0
        self._anchors: dict[str, tuple[object, int]] = {}  # with the number of values in each

    def read(self) -> object:
        value, is_read = None, False
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if is_read:
                    _refuse(event, "a second document begins; there can be one")
                value, is_read = self._value(next(self._events)), True
        return value

    def _value(self, event: yaml.NodeEvent) -> object:
        if isinstance(event, yaml.AliasEvent):
            return self._anchored(event)
        before = self._num_values
        self._count(event, 1)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        else:
            assert isinstance(event, yaml.CollectionStartEvent)
            value = self._collection(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._num_values - before
        return value

    def _anchored(self, event: yaml.AliasEvent) -> object:
        if event.anchor not in self._anchors:
            _refuse(event, f"*{event.anchor} names nothing before it, or what it stands in")
        value, num_values = self._anchors[event.anchor]
        self._count(event, num_values)
        return value

    def _count(self, event: yaml.Event, num_values: int) -> None:
        self._num_values += num_values
        if self._num_values > _MAX_VALUES:
            _refuse(event, f"holds more than {_MAX_VALUES:,} values, aliases counted as what they stand for")

    def _collection(self, event: yaml.CollectionStartEvent) -> object:
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if event.tag not in (None, "!", f"{_PREFIX}{'seq' if is_list else 'map'}"):
            _refuse_tag(event)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            _refuse(event, f"is nested too deeply, more than {_MAX_DEPTH} times")
        value = self._list() if is_list else self._mapping()
        self._depth -= 1
        return value

    def _list(self) -> list[object]:
        values = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event))
        return values

    def _mapping(self) -> dict[object, object]:
        own: dict[object, object] = {}
        merged: dict[object, object] | None = None
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and self._tag(event) == _MERGE:
                if merged is not None:
                    _refuse(event, "the key '<<' is given twice")
                merged = self._merged()
                continue
            key = self._value(event)
            if isinstance(key, dict | list):
                _refuse(event, "a key is a single value")
            if key in own:
                _refuse(event, f"the key {key!r:.60} is given twice")
            own[key] = self._value(next(self._events))
        return {**(merged or {}), **own}

    def _merged(self) -> dict[object, object]:
        """The mapping behind `<<`, or those of a list, of which an earlier one goes before a later one."""
        event = next(self._events)
        value = self._value(event)
        merged: dict[object, object] = {}
        for mapping in value if isinstance(value, list) else [value]:
            if not isinstance(mapping, dict):
                _refuse(event, "expected a mapping behind '<<', or a list of them")
            merged = {**mapping, **merged}
        return merged

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        tag = self._tag(event)
        kind = tag.removeprefix(_PREFIX)
        if tag not in _READERS:
            _refuse_tag(event)
        if kind in ("int", "float") and len(event.value) > _MAX_DIGITS:
            _refuse(event, f"a number of {len(event.value)} digits is beyond what can be told apart")
        if "\0" in event.value or any("\ud800" <= letter <= "\udfff" for letter in event.value):
            _refuse(event, "a text holds a character that no text has")
        try:
            value = _READERS[tag](yaml.ScalarNode(tag, event.value))
        except (ValueError, ArithmeticError, LookupError):
            _refuse(event, f"{event.value!r:.60} is no {kind}")
        if isinstance(value, int) and value not in _INT64:
            _refuse(event, f"{event.value} is beyond 64 bits")
        return value

    def _tag(self, event: yaml.ScalarEvent) -> str:
        if event.tag in (None, "!"):
            return str(self._loader.resolve(yaml.ScalarNode, event.value, event.implicit))
        return str(event.tag)


def _refuse_tag(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> NoReturn:
    tag = str(event.tag or "").replace(_PREFIX, "!!")
    _refuse(event, f"the tag {tag!r:.60} cannot stand here" if tag else "'=' or '<<' cannot stand here")


def _refuse(event: yaml.Event, problem: str) -> NoReturn:
    raise YamlError(problem, line=event.start_mark.line + 1 if event.start_mark else None)
