"""Payloads against the JSON Schemas of their handlers: the field that is wrong, and what would be right."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from qw.core.task.json_schema import compiled


class Item(BaseModel):
    sku: Annotated[str, Field(pattern=r"^[A-Z]\d+$")]
    parts: list[Item] = []


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: Annotated[int, Field(ge=1, lt=100)]
    items: Annotated[list[Item], Field(max_length=2)] = []
    gift: Item | None = None
    size: Literal["s", "m"] = "m"
    weight: float | str = 1.0
    tags: dict[str, bool] = {}
    point: tuple[int, str] = (0, "")
    note: Annotated[str, Field(min_length=2, max_length=3)] = "ok"


SCHEMA = Order.model_json_schema()
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "payload.number: is missing"),
    ({"number": "7"}, "payload.number: must be an integer, not a string"),
    ({"number": True}, "payload.number: must be an integer, not true or false"),
    ({"number": 1.5}, "payload.number: must be an integer, not a number"),
    ({"number": 0}, "payload.number: must be at least 1"),
    ({"number": 100}, "payload.number: must be less than 100"),
    ({"number": 1, "siez": "s"}, "payload.siez: is unknown; did you mean 'size'? Known are number, items, gift, size,"),
    ({"number": 1, "size": "l"}, 'payload.size: must be one of "s", "m"'),
    ({"number": 1, "items": {}}, "payload.items: must be a list, not an object"),
    ({"number": 1, "items": [{"sku": "A1"}] * 3}, "payload.items: has 3 items; at most 2 are allowed"),
    ({"number": 1, "items": [{"sku": "A1", "parts": [{"sku": 5}]}]}, "payload.items[0].parts[0].sku: must be a string"),
    ({"number": 1, "gift": {"sku": "a1"}}, r"payload.gift.sku: does not match ^[A-Z]\d+$"),
    ({"number": 1, "gift": 5}, "payload.gift: must be an object, not a number; or must be null, not a number"),
    ({"number": 1, "weight": None}, "payload.weight: must be a number, not null; or must be a string, not null"),
    ({"number": 1, "tags": {"a": 1}}, "payload.tags.a: must be true or false, not a number"),
    ({"number": 1, "point": [1, 2]}, "payload.point[1]: must be a string, not a number"),
    ({"number": 1, "note": "x"}, "payload.note: has 1 characters; at least 2 are needed"),
]


@pytest.mark.parametrize(("payload", "message"), WRONG)
def test_a_fault_names_the_field_and_what_would_be_right(payload: dict[str, Any], message: str) -> None:
    (fault, *others) = compiled(SCHEMA)(payload)

    assert str(fault).startswith(message)
    assert not others


def test_every_fault_is_named_but_no_more_than_ten() -> None:
    faults = compiled(SCHEMA)({"number": "x", "note": 1, **{f"extra{n}": n for n in range(20)}})

    assert [str(fault).partition(":")[0] for fault in faults[:2]] == ["payload.number", "payload.note"]
    assert len(faults) == 10


def test_without_a_schema_any_payload_is_fine() -> None:
    assert compiled(None)({"anything": [1, None]}) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "https://example.org/else.json"}}},
        {"properties": {"a": {"type": "nothing known"}}},
        {"properties": {"a": {"pattern": r"(?<=x)y"}}},
        {"properties": {"a": {"format": "uuid"}}},
        {"properties": {"a": True}},
        {"properties": ["a"]},
        {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "#/$defs/b"}}},
    ],
)
def test_what_is_not_known_refuses_nothing(schema: dict[str, Any]) -> None:
    assert compiled(schema)({"a": "b"}) == []


def test_a_pattern_takes_no_exponential_time() -> None:
    check = compiled({"properties": {"a": {"pattern": "^(a+)+$"}}})

    assert check({"a": "a" * 5000 + "b"}) != []


_leaf = st.none() | st.booleans() | st.integers(-2, 120) | st.floats(-5, 5) | st.sampled_from(["", "s", "ok", "A1"])
_parts = st.lists(st.just({"sku": "A1"}) | _leaf, max_size=2)
_item = st.fixed_dictionaries({}, optional={"sku": _leaf, "parts": _parts})
_value = _leaf | _item | st.lists(_leaf | _item, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), _leaf)
_payload = st.fixed_dictionaries({}, optional=dict.fromkeys([*Order.model_fields, "other"], _value))


@given(_payload)
def test_it_refuses_what_a_complete_validator_refuses(payload: dict[str, Any]) -> None:
    assert (compiled(SCHEMA)(payload) == []) is jsonschema_rs.validator_for(SCHEMA).is_valid(payload)
