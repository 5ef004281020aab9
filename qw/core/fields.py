"""Document objects described as tables of fields: one table both reads an object and gives its JSON Schema.

Reading continues after a fault, so that all faults are reported, each with its path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.expression.evaluation import kind
from qw.core.parsing import NOWHERE, below, hint, names, refuse_unknown
from qw.core.task.payload import Json, JsonObject

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Type(Generic[T]):
    """The type of a value. ``read(value, path, faults)`` returns the parsed value, or None after adding a fault."""

    def __init__(self, read: Callable[[Json, str, list[Fault]], T | None], schema: JsonObject) -> None:
        self._read = read
        self._schema = schema

    def read(self, value: Json, path: str, faults: list[Fault]) -> T | None:
        return self._read(value, path, faults)

    @property
    def schema(self) -> JsonObject:
        return self._schema


class Field:
    """One key of an object. ``default`` is the value of a missing key, and also of null unless ``null`` is False.

    ``alias``: another name of the key. ``required``: the fault if the key is missing; empty: the key is optional.
    """

    def __init__(
        self,
        type: Type[Any],
        about: str = "",
        *,
        default: Any = None,
        alias: str | None = None,
        required: str = "",
        null: bool = True,
    ) -> None:
        self.type = type
        self.about = about
        self.default = default
        self.alias = alias
        self.required = required
        self.null = null and not required

    def read(self, document: JsonObject, key: str, path: str, faults: list[Fault]) -> Any:
        if self.alias in document:
            if key in document:
                message = f"{self.alias!r} means {key!r}; give one of them"
                faults.append(Fault(path=below(path, self.alias), message=message))
            key = self.alias
        value = document.get(key)
        if value is None and (self.null or key not in document):
            if self.required:
                faults.append(Fault(path=path, message=self.required))
            return self.default
        found = self.type.read(value, below(path, key), faults)
        return self.default if found is None else found

    @property
    def schema(self) -> JsonObject:
        about: JsonObject = {"description": self.about} if self.about else {}
        return {**about, **(_or_null(self.type.schema) if self.null else self.type.schema)}


def _or_null(schema: JsonObject) -> JsonObject:
    if isinstance(kinds := schema.get("type"), str | list):
        return {**schema, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}
    if isinstance(words := schema.get("enum"), list):
        return {**schema, "enum": [*words, None]}
    if isinstance(choices := schema.get("anyOf"), list):
        return {**schema, "anyOf": [*choices, {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]} if schema else {}


class Object(Type[dict[str, Any]]):
    """An object that may have these keys only; the result of reading has all of them. ``what``: its name in faults.

    ``elsewhere``: what to write instead of other keys. ``ref``: its name under ``$defs``. ``must``: the fault if the
    value is not an object. ``one_of``: keys of which exactly one must be present, and the fault if none or several are.
    """

    def __init__(
        self,
        what: str,
        fields: Mapping[str, Field],
        *,
        ref: str = "",
        must: str = "must be an object",
        one_of: tuple[tuple[str, ...], str] = ((), ""),
        elsewhere: Mapping[str, str] = NOWHERE,
    ) -> None:
        super().__init__(self.read, {"$ref": f"#/$defs/{ref}"} if ref else {})
        self.what = what
        self.fields = fields
        self.elsewhere = elsewhere
        self.ref = ref
        self._must = must
        self._one_of, self._not_one = one_of

    @property
    def defaults(self) -> dict[str, Any]:
        """The result of reading an empty object."""
        return {key: field.default for key, field in self.fields.items()}

    @property
    def keys(self) -> list[str]:
        """All allowed keys, including aliases."""
        return [name for key, field in self.fields.items() for name in (key, field.alias) if name is not None]

    def read(self, document: Json, path: str, faults: list[Fault]) -> dict[str, Any]:
        if not isinstance(document, dict):
            faults.append(Fault(path=path, message=f"{self._must}, not {kind(document)}"))
            return self.defaults
        refuse_unknown(document, self.keys, path, self.what, faults, self.elsewhere)
        if self._one_of and len(document.keys() & {*self._one_of}) != 1:
            faults.append(Fault(path=path, message=self._not_one))
        return {key: field.read(document, key, path, faults) for key, field in self.fields.items()}

    def to(self, make: Callable[[dict[str, Any]], T]) -> Type[T]:
        """Return a type that passes the result of reading to *make*."""
        return Type(lambda value, path, faults: make(self.read(value, path, faults)), self.schema)

    @property
    def schema(self) -> JsonObject:
        return self._schema or self.definition

    @property
    def definition(self) -> JsonObject:
        """The full schema, even if `schema` is a reference to it."""
        properties: JsonObject = {}
        for key, field in self.fields.items():
            properties[key] = field.schema
            if field.alias:
                properties[field.alias] = {**field.schema, "description": f"The same as {key}"}
        required: list[Json] = [key for key, field in self.fields.items() if field.required]
        choices: list[Json] = [{"required": [key]} for key in self._one_of]
        return {
            "type": "object",
            "properties": properties,
            "patternProperties": {"^x-": {}},
            "additionalProperties": False,
            **({"required": required} if required else {}),
            **({"oneOf": choices} if choices else {}),
        }


# -- types of values


def as_is(schema: JsonObject) -> Type[Any]:
    """A value that is not checked here, because it is checked together with other values."""
    return Type(lambda value, path, faults: value, schema)


def parsed(parse: Callable[[Json], T], schema: JsonObject) -> Type[T]:
    """A value converted by *parse*; a fault if *parse* raises Invalid."""

    def read(value: Json, path: str, faults: list[Fault]) -> T | None:
        try:
            return parse(value)
        except Invalid as error:
            faults += [Fault(path=path, message=fault.message) for fault in error.faults]
            return None

    return Type(read, schema)


def checked(schema: JsonObject, is_right: Callable[[Any], bool], fault: Callable[[Json], str]) -> Type[Any]:
    """A value that is used unchanged if it passes the check, and else causes the message *fault*."""

    def read(value: Json, path: str, faults: list[Fault]) -> Json:
        if is_right(value):
            return value
        faults.append(Fault(path=path, message=fault(value)))
        return None

    return Type(read, schema)


def _quoted(value: Json) -> str:
    return "" if isinstance(value, (dict, list)) else "; put it in quotes"


TEXT: Type[str] = checked(
    {"type": "string"},
    lambda value: isinstance(value, str),
    lambda value: f"must be a string, not {kind(value)}{_quoted(value)}",
)
FLAG: Type[bool] = checked(
    {"type": "boolean"},
    lambda value: isinstance(value, bool),
    lambda value: f"must be true or false, not {kind(value)}",
)
OBJECT: Type[JsonObject] = checked(
    {"type": "object"}, lambda value: isinstance(value, dict), lambda value: f"must be an object, not {kind(value)}"
)
ANYTHING = as_is({})

NAMES_SCHEMA: JsonObject = {"anyOf": [TEXT.schema, {"type": "array", "items": TEXT.schema}]}
NAMES = Type(names, {"$ref": "#/$defs/names"})

DURATION_SCHEMA: JsonObject = {
    "description": "A duration: 30s, 5m, 2h, 1d, PT5M, or a number of seconds",
    "type": ["string", "number"],
}
DURATION = parsed(parse_duration, {"$ref": "#/$defs/duration"})


def _positive(value: Json) -> timedelta:
    if duration := parse_duration(value):
        return duration
    raise Invalid("must be greater than 0")


POSITIVE_DURATION = parsed(_positive, DURATION.schema)


def _is_url(value: Json) -> bool:
    url = urlsplit(value) if isinstance(value, str) else None
    return url is not None and url.scheme in ("http", "https") and bool(url.hostname)


URL: Type[str] = checked(
    {"type": "string", "pattern": "^https?://"},
    _is_url,
    lambda value: "must be a URL that begins with http:// or https://",
)


def text_of(pattern: re.Pattern[str], fault: str) -> Type[str]:
    """Text that matches *pattern*. *fault* continues a message that starts with the value: ``is not a name``."""
    return checked(
        {"type": "string", "pattern": f"^({pattern.pattern})$"},
        lambda value: isinstance(value, str) and bool(pattern.fullmatch(value)),
        lambda value: f"{str(value)[:60]!r} {fault}",
    )


def integer(low: int, high: int) -> Type[int]:
    return checked(
        {"type": "integer", "minimum": low, "maximum": high},
        lambda value: type(value) is int and low <= value <= high,
        lambda value: f"must be an integer from {low} to {high:,}, not {_shown(value)}",
    )


def number(low: int, high: int) -> Type[float]:
    return checked(
        {"type": "number", "minimum": low, "maximum": high},
        lambda value: type(value) in (int, float) and low <= value <= high,
        lambda value: f"must be a number from {low} to {high:,}, not {_shown(value)}",
    )


def _shown(value: Json) -> str:
    return repr(value[:60]) if isinstance(value, str) else str(value) if type(value) in (int, float) else kind(value)


def choice(of: type[E]) -> Type[E]:
    words = [word.value for word in of]

    def read(value: Json, path: str, faults: list[Fault]) -> E | None:
        if value in words:
            return of(str(value))
        message = f"{str(value)[:60]!r} is not one of {', '.join(words)}{hint(str(value), words, faults)}"
        faults.append(Fault(path=path, message=message))
        return None

    return Type(read, {"enum": [*words]})


def by_name(
    value: Type[T], pattern: re.Pattern[str] | None = None, fault: str = "", must: str = "must be an object"
) -> Type[dict[str, T]]:
    """An object of values of one type, whose keys match *pattern*. *fault* continues a message that names the key."""

    def read(document: Json, path: str, faults: list[Fault]) -> dict[str, T]:
        if not isinstance(document, dict):
            faults.append(Fault(path=path, message=f"{must}, not {kind(document)}"))
            return {}
        found = {}
        for name, one in document.items():
            place = below(path, name[:60])
            if pattern and not pattern.fullmatch(name):
                faults.append(Fault(path=place, message=f"{name[:60]!r} {fault}"))
            elif (read_value := value.read(one, place, faults)) is not None:
                found[name] = read_value
        return found

    named: JsonObject = {"propertyNames": {"pattern": f"^({pattern.pattern})$"}} if pattern else {}
    return Type(read, {"type": "object", **named, "additionalProperties": value.schema})
