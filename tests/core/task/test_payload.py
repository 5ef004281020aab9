from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from qw.core.errors import Invalid
from qw.core.task.payload import (
    MAX_DEPTH,
    MAX_ERROR,
    MAX_INT,
    MAX_PAYLOAD,
    MIN_INT,
    check,
    clean,
    clean_error,
    clean_text,
    parse,
    parse_object,
    storable_faults,
)

STORABLE_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
STORABLE: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(MIN_INT, MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STORABLE_TEXT,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(STORABLE_TEXT, below, max_size=4),
    max_leaves=15,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for n in range(depth):
        value = [value] if n % 2 else {"a": value}
    return value


@given(STORABLE)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON: Expecting value at line 1 column 1"),
        ("{'a': 1}", "not JSON"),
        ('{"a": 1,\n "b": }', "at line 2 column 7"),
        ("1 2", "not JSON: Extra data"),
        (b"\xff", "not UTF-8 at byte 0"),
        ("NaN", "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ("1e999", "inf is not a JSON number"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice in one object"),
        ('{"a": {"b": "\\u0000"}}', r"payload.a.b: contains NUL"),
        ('{"a": [0, "\\ud800"]}', r"payload.a\[1\]: contains a lone surrogate"),
        ('{"a\\u0000": 1}', "payload: a key contains NUL"),
        (str(MAX_INT + 1), r"an integer outside -2\^63"),
        (str(MIN_INT - 1), r"an integer outside -2\^63"),
        ("9" * 5000, r"an integer outside -2\^63"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ("[" * 100_000, "nested deeper than 100 levels"),
        ('"' + "x" * MAX_PAYLOAD + '"', "at most 1,048,576 bytes are stored"),
    ],
)
def test_json_that_cannot_be_stored_is_refused_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse(text)


@pytest.mark.parametrize("text", [str(MAX_INT), str(MIN_INT), "[" * 100 + "]" * 100, '"😀"', "-0.0", "1e300"])
def test_json_at_the_limits_is_accepted(text: str) -> None:
    assert parse(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[]", "a list"), ("3", "a number"), ('"x"', "a string"), ("null", "null"), ("true", "true or false")],
)
def test_a_payload_is_an_object(text: str, kind: str) -> None:
    with pytest.raises(Invalid, match=f"^input: must be a JSON object, not {kind}$"):
        parse_object(text, path="input")
    with pytest.raises(Invalid, match=f"not {kind}"):
        check(json.loads(text))


@pytest.mark.parametrize("value", [{1: "a"}, {"a": object()}, {"a": {1, 2}}, {"a": b"x"}, {"a": float("nan")}])
def test_a_payload_made_in_python_is_json(value: Any) -> None:
    with pytest.raises(Invalid):
        check(value)


def test_faults_are_listed_in_the_order_of_the_input_and_ten_at_most() -> None:
    with pytest.raises(Invalid) as caught:
        check({str(n): "\0" for n in range(50)})

    assert [fault.path for fault in caught.value.faults] == [f"payload.{n}" for n in range(10)]


def test_depth_is_measured_without_recursion() -> None:
    assert list(storable_faults(nested(MAX_DEPTH), "p")) == []
    assert len(list(storable_faults(nested(100_000), "p"))) == 1


class Colour(StrEnum):
    RED = "red"


@dataclass
class Point:
    x: int
    when: date


class Model(BaseModel):
    amount: Decimal


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (2**64, "18446744073709551616"),
        ("a\0b\ud800c", "a�b�c"),
        ({1: {"k\0": (1, 2)}}, {"1": {"k�": [1, 2]}}),
        ({3}, [3]),
        (Colour.RED, "red"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 11, 24, tzinfo=UTC), "2026-11-24T00:00:00+00:00"),
        (timedelta(minutes=1), 60.0),
        (b"a\xff", "a�"),
        (Point(1, date(2026, 1, 2)), {"x": 1, "when": "2026-01-02"}),
        (Model(amount=Decimal("2.50")), {"amount": "2.50"}),
    ],
)
def test_what_a_handler_returns_is_made_storable(value: object, cleaned: Any) -> None:
    assert clean(value) == cleaned


@given(STORABLE)
def test_what_is_storable_stays_as_it_is(value: Any) -> None:
    assert clean(value) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.dates(),
        lambda below: st.lists(below) | st.tuples(below) | st.dictionaries(st.text() | st.integers(), below),
        max_leaves=15,
    )
)
def test_whatever_is_cleaned_can_be_stored(value: object) -> None:
    assert list(storable_faults(clean(value), "result")) == []


def test_a_result_that_is_too_deep_is_refused() -> None:
    with pytest.raises(Invalid, match="nested deeper than 100"):
        clean(nested(101))


def test_a_long_error_keeps_its_head_and_tail() -> None:
    error = clean_error("head" + "x" * 1_000_000 + "tail")

    assert len(error) <= MAX_ERROR
    assert error.startswith("head")
    assert error.endswith("tail")
    assert "characters left out" in error


@given(st.text())
def test_cleaned_text_has_no_nul_and_no_surrogate(text: str) -> None:
    cleaned = clean_text(text)

    assert len(cleaned) == len(text)
    assert "\0" not in cleaned
    cleaned.encode()
