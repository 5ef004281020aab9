"""Field types shared by bodies and queries, with their error messages."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from qw.core.duration import parse_duration
from qw.core.errors import Invalid
from qw.core.task.payload import JsonObject

MAX_LIMIT = 1000

_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].{1,40})?", re.ASCII)


class Form(BaseModel):
    """Base of bodies and queries: camel case in JSON, snake case in Python. Unknown names are dropped."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


def wrong(*texts: str) -> PydanticCustomError:
    """Return the error for a validator to raise; each of *texts* is one fault."""
    return PydanticCustomError("texts", "{first}", {"first": texts[0], "texts": list(texts)})


def _text(value: Any, info: ValidationInfo) -> str:
    """Validate text; a number is converted to text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    name = to_camel(info.field_name or "")
    if value is None:
        raise wrong(f"{name} should not be empty", f"{name} must be a string")
    if not isinstance(value, str):
        raise wrong(f"{name} must be a string")
    if not value.strip():
        raise wrong(f"{name} should not be empty")
    return value


def moment(value: str) -> datetime:
    """Parse an ISO 8601 date or time; UTC if it has no zone. Raise ValueError for anything else."""
    if not _DATE.fullmatch(value):
        raise ValueError
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise ValueError from None


def _date(value: Any, info: ValidationInfo) -> str | None:
    if value is None:
        return None
    name = to_camel(info.field_name or "")
    try:
        moment(value)
    except (ValueError, TypeError):
        raise wrong(f"{name} must be a valid ISO 8601 date string") from None
    return str(value)


def _needed_date(value: Any, info: ValidationInfo) -> str:
    name = to_camel(info.field_name or "")
    texts = [] if isinstance(value, str) and value.strip() else [f"{name} should not be empty"]
    if not isinstance(value, str):
        texts = [*(texts if value is None else []), f"{name} must be a string"]
    try:
        moment(value)
    except (ValueError, TypeError):
        raise wrong(*texts, f"{name} must be a valid ISO 8601 date string") from None
    return str(value)


def _moment(value: Any, info: ValidationInfo) -> datetime | None:
    text = _date(value, info)
    return moment(text) if text is not None else None


def _duration(value: Any, info: ValidationInfo) -> timedelta | None:
    try:
        return None if value is None else parse_duration(value)
    except Invalid as error:
        raise wrong(f"{to_camel(info.field_name or '')}: {error}") from None


_DATE_SCHEMA: JsonObject = {"type": "string", "format": "date-time"}

Text = Annotated[
    str,
    BeforeValidator(_text),
    Field(default=None, validate_default=True),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "number"}]}),
]
"""Required, non-empty text; a number is converted to text."""

Date = Annotated[str | None, BeforeValidator(_date), WithJsonSchema({"anyOf": [_DATE_SCHEMA, {"type": "null"}]})]
"""A validated date, kept as the text that was sent."""

NeededDate = Annotated[
    str, BeforeValidator(_needed_date), Field(default=None, validate_default=True), WithJsonSchema(_DATE_SCHEMA)
]

Moment = Annotated[
    datetime | None, BeforeValidator(_moment), WithJsonSchema({"anyOf": [_DATE_SCHEMA, {"type": "null"}]})
]
QueryMoment = Annotated[datetime | None, BeforeValidator(_moment), WithJsonSchema(_DATE_SCHEMA)]
Duration = Annotated[
    timedelta | None,
    BeforeValidator(_duration),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}),
]
Whole = Annotated[int, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Limit = Annotated[int, Field(ge=1), AfterValidator(lambda limit: min(limit, MAX_LIMIT))]
Stamp = Annotated[str, PlainSerializer(str), WithJsonSchema({"type": "string", "format": "date-time"})]
Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]


def texts_of(error: ValidationError) -> list[str]:
    """Return every fault in the words of the API documentation, in field order."""
    return [text for fault in error.errors(include_url=False, include_input=False) for text in _texts(fault)]


_WORDS = {
    "string_type": "must be a string",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be an array",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "bool_type": "must be a boolean value",
    "bool_parsing": "must be a boolean value",
    "int_type": "must be an integer number",
    "int_parsing": "must be an integer number",
    "int_from_float": "must be an integer number",
    "missing": "should not be empty",
    "extra_forbidden": "should not exist",
}


def _texts(fault: ErrorDetails) -> list[str]:
    if fault["type"] == "texts":
        texts: list[str] = fault["ctx"]["texts"]
        return texts
    place = ".".join(map(str, fault["loc"])) or "body"
    if fault["type"] == "enum":
        return [f"{place} must be one of the following values: {fault['ctx']['expected']}"]
    return [f"{place} {_WORDS.get(fault['type']) or fault['msg'][0].lower() + fault['msg'][1:]}"]


__all__ = [
    "Date",
    "Duration",
    "Form",
    "Id",
    "Limit",
    "Moment",
    "NeededDate",
    "QueryMoment",
    "Stamp",
    "Switch",
    "Text",
    "Whole",
    "moment",
    "texts_of",
    "wrong",
]
