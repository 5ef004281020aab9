"""Parses YAML into data with places. Only JSON values are supported, so that no value has an unexpected type.

Uses the parser's events instead of its nodes: they need no recursion, have the place of each key, and allow the size
of aliases to be checked before they are expanded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from qw.core.errors import Fault, Invalid
from qw.core.task.payload import MAX_DEPTH, Json, JsonObject

MAX_BYTES = 1024 * 1024
MAX_ALIASED = 5000  # total number of values repeated by aliases
MAX_PATH = 500  # characters; values with longer paths have the place of an enclosing value

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,19})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)\.[0-9]*|(0|[1-9][0-9]*)(?=[eE]))([eE][-+]?[0-9]{1,2})?")
_WORDS: dict[str, Json] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, kw_only=True)
class YamlSource:
    """The value in a file, and the line and column (from 1) of each key and list item by its path.

    ``links``: by path, where aliased, merged or included parts were written, in this file or another.
    """

    name: str
    value: Json
    places: dict[str, tuple[int, int]] = field(repr=False)
    links: dict[str, tuple[YamlSource, str]] = field(default_factory=dict, repr=False)

    def where(self, path: str) -> str:
        """Return ``file:line:column`` of the place where *path* was written, or of the nearest enclosing value."""
        known_path = path
        while known_path and known_path not in self.places and known_path not in self.links:
            known_path = known_path[: max(known_path.rfind("."), known_path.rfind("["), 0)]
        if known_path in self.links and (known_path != path or known_path not in self.places):
            source, base = self.links[known_path]
            return source.where(base + path[len(known_path) :])
        line, column = self.places.get(known_path, (1, 1))
        return f"{self.name}:{line}:{column}"

    def link(self, path: str, to: str, *, of: YamlSource | None = None) -> None:
        """Record that the value at *path* was written at *to*, in this file or another."""
        self.links[path] = (of or self, to)


def read(content: str, name: str) -> YamlSource:
    """Parse the single document in *content*. Raise Invalid with all faults and their places."""
    if len(content) > MAX_BYTES:
        raise Invalid(Fault(path=name, message=f"{len(content):,} characters; at most {MAX_BYTES:,} are read"))
    builder = _Builder(name)
    try:
        for event in yaml.parse(content, Loader=yaml.CSafeLoader):
            builder.take(event)
    except _Stop as stop:
        builder.refuse(*stop.args)
    except yaml.MarkedYAMLError as error:
        builder.refuse(_syntax(error, content), error.problem_mark)
    except yaml.YAMLError as error:
        builder.refuse(f"not YAML: {' '.join(str(error).split())}", None)
    if builder.faults:
        raise Invalid(*builder.faults)
    source = YamlSource(name=name, value=builder.root, places=builder.places)
    for path, written in builder.links.items():
        source.link(path, written)
    return source


class _Stop(Exception):
    """A fault after which parsing cannot continue: message and mark."""


def _syntax(error: yaml.MarkedYAMLError, content: str) -> str:
    if error.problem_mark and _is_tab(content, error.problem_mark):
        return "a tab cannot indent; use spaces"
    return f"not YAML: {', '.join(part for part in (error.context, error.problem) if part)}"


def _is_tab(content: str, mark: yaml.Mark) -> bool:
    lines = content.split("\n")
    return mark.line < len(lines) and lines[mark.line].startswith("\t", mark.column)


@dataclass(kw_only=True)
class _Open:
    """A mapping or list that is being read. ``size`` counts the values in it, including repeats by aliases.

    ``merged``: the value of ``<<``. ``is_merge``: the next value is that of ``<<``.
    """

    value: JsonObject | list[Json]
    path: str
    anchor: str | None
    key: str | None = None
    size: int = 1
    is_merge: bool = False
    merged: Json = None


class _Builder:
    """Builds a value from events. Continues after a fault, so that all faults are reported."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: Json = None
        self.places: dict[str, tuple[int, int]] = {}
        self.links: dict[str, str] = {}  # from the path of an alias or merge key to the path that it repeats
        self.faults: list[Fault] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Json, int, str]] = {}
        self._aliased = 0
        self._documents = 0

    def refuse(self, message: str, mark: Any) -> None:
        place = f"{self.name}:{mark.line + 1}:{mark.column + 1}" if mark else self.name
        self.faults.append(Fault(path=place, message=message))

    def take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise _Stop("a second document begins here; one is read", event.start_mark)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end(event)
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                self._alias(event)

    def _begin(self, event: Any) -> None:
        self._check_tag(event)
        if len(self._open) >= MAX_DEPTH:
            raise _Stop(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        if self._wants_key():
            self.refuse("a key must be a word, not a list or an object", event.start_mark)
            self._open[-1].key = ""
        path = self._path(event)
        value: JsonObject | list[Json] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Open(value=value, path=path, anchor=event.anchor))

    def _scalar(self, event: Any) -> None:
        self._check_tag(event)
        if self._wants_key():
            self._key(event)
            return
        path = self._path(event)
        value = _plain(event.value) if event.implicit[0] else event.value
        self._add(value, 1, event.anchor, path)

    def _key(self, event: Any) -> None:
        within, key = self._open[-1], event.value
        if key == "<<" and event.implicit[0]:
            if within.is_merge or within.merged is not None:
                self.refuse("the merge key << occurs twice in one object; give it a list", event.start_mark)
            within.is_merge = True
        elif key in within.value:
            self.refuse(f"the key {key[:60]!r} occurs twice in one object", event.start_mark)
        within.key = key
        self._note(f"{within.path}.{key}" if within.path else key, event)

    def _alias(self, event: Any) -> None:
        if self._wants_key():
            self.refuse("an alias cannot be a key", event.start_mark)
            self._open[-1].key = ""
            return
        path = self._path(event)
        if event.anchor not in self._anchors:
            self.refuse(f"there is no anchor {event.anchor[:60]!r} before this", event.start_mark)
        value, size, written = self._anchors.get(event.anchor, (None, 1, path))
        if len(path) < MAX_PATH and written != path:
            self.links[path] = written
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            raise _Stop(f"aliases repeat more than {MAX_ALIASED:,} values", event.start_mark)
        self._add(value, size, None, path)

    def _end(self, event: Any) -> None:
        done = self._open.pop()
        if isinstance(done.value, dict) and done.merged is not None:
            self._merge(done.value, done, event)
        self._add(done.value, done.size, done.anchor, done.path)

    def _merge(self, value: JsonObject, done: _Open, event: Any) -> None:
        """Add the keys of ``<<`` to *value*. Its own keys take precedence, then those of earlier objects in a list."""
        path = f"{done.path}.<<" if done.path else "<<"
        several = done.merged if isinstance(done.merged, list) else None
        for n, merged in enumerate([done.merged] if several is None else several):
            if not isinstance(merged, dict):
                self.refuse("the merge key << takes an object or a list of objects", event.start_mark)
                continue
            base = path if several is None else f"{path}[{n}]"
            for key in merged.keys() - value.keys():
                place = f"{done.path}.{key}" if done.path else key
                if len(place) < MAX_PATH:
                    self.links[place] = f"{base}.{key}"
            value.update({key: one for key, one in merged.items() if key not in value})

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None:
            self.refuse(f"the tag {event.tag[:60]!r} is not supported; only the types of JSON are", event.start_mark)

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _path(self, event: Any) -> str:
        """Return the path of the value that starts here, and record its place if it is a list item."""
        if not self._open:
            return ""
        within = self._open[-1]
        if isinstance(within.value, dict):
            path = f"{within.path}.{within.key}" if within.path else within.key or ""
        else:
            path = f"{within.path}[{len(within.value)}]"
            self._note(path, event)
        return path[:MAX_PATH]

    def _note(self, path: str, event: Any) -> None:
        if len(path) < MAX_PATH:
            self.places.setdefault(path, (event.start_mark.line + 1, event.start_mark.column + 1))

    def _add(self, value: Json, size: int, anchor: str | None, path: str) -> None:
        if anchor:
            self._anchors[anchor] = (value, size, path)
        if not self._open:
            self.root = value
            return
        within = self._open[-1]
        within.size += size
        if isinstance(within.value, list):
            within.value.append(value)
        elif within.is_merge:
            within.merged, within.is_merge, within.key = value, False, None
        else:
            within.value[within.key or ""] = value
            within.key = None


def _plain(word: str) -> Json:
    """Convert an unquoted word: YAML 1.2's null, true, false and numbers; ``no``, ``1:30`` and dates are text.

    A number with leading zeros is text too, because it is a code and not an amount.
    """
    if word in _WORDS:
        return _WORDS[word]
    if _INT.fullmatch(word):
        return int(word)
    return float(word) if _FLOAT.fullmatch(word) else word
