"""How much of payloads and results a response shows."""

from __future__ import annotations

from enum import Enum
from itertools import islice

from qw.core.task.masking import masked, masked_object
from qw.core.task.payload import Json, JsonObject

_CONTENT = ("payload", "result", "input", "output")  # members of an event's data that are hidden
_LONGEST = 160  # characters of a value, and the most members


def brief(value: JsonObject) -> JsonObject:
    """Return *value* with the first characters of long texts, and only ``[3]`` for a list and ``{…}`` for an object."""
    return {name[:_LONGEST]: _brief(member) for name, member in islice(value.items(), _LONGEST)}


def _brief(value: Json) -> Json:
    match value:
        case str():
            return value[:_LONGEST]
        case list():
            return f"[{len(value)}]"
        case dict():
            return "{…}" if value else "{}"
        case _:
            return value


class Shown(Enum):
    MASKED = "masked"  # values that look secret are masked
    REVEALED = "revealed"
    HIDDEN = "hidden"  # no content at all

    def json(self, value: Json) -> Json:
        match self:
            case Shown.REVEALED:
                return value
            case Shown.HIDDEN:
                return None
            case Shown.MASKED:
                return masked(value)

    def object(self, value: JsonObject) -> JsonObject:
        match self:
            case Shown.REVEALED:
                return value
            case Shown.HIDDEN:
                return {}
            case Shown.MASKED:
                return masked_object(value)

    def event(self, body: JsonObject) -> JsonObject:
        """Return the body of an event. Its content was masked when the event was created."""
        data = body.get("data")
        if self is not Shown.HIDDEN or not isinstance(data, dict):
            return body
        return {**body, "data": {name: value for name, value in data.items() if name not in _CONTENT}}
