from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.errors import Invalid
from qw.core.ids import parse_id, uuid7

MILLIS = st.integers(0, 2**48 - 1)
ENTROPY = st.binary(min_size=10, max_size=10)


@given(MILLIS, ENTROPY)
def test_an_id_is_a_uuid_of_version_7_that_begins_with_its_time(millis: int, entropy: bytes) -> None:
    made = uuid7(millis, entropy)

    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == millis


@given(MILLIS, ENTROPY, ENTROPY)
def test_a_later_id_sorts_after_an_earlier_one(millis: int, first: bytes, second: bytes) -> None:
    assert millis == 2**48 - 1 or uuid7(millis, first) < uuid7(millis + 1, second)


def test_ids_of_one_moment_differ_by_their_entropy() -> None:
    seen = {uuid7(1, n.to_bytes(10, "big")) for n in range(1000)} | {uuid7(1, bytes([n]) * 10) for n in range(2, 256)}

    assert len(seen) == 1254


def test_an_id_is_read_in_either_case() -> None:
    text = "0192f0c1-2b3c-7d4e-8f50-0123456789ab"

    assert parse_id(text) == parse_id(text.upper()) == UUID(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "x" * 36,
        "0192f0c12b3c7d4e8f500123456789ab",
        "{0192f0c1-2b3c-7d4e-8f50-0123456789ab}",
        "é" * 36,
        "\0" * 36,
    ],
)
def test_what_is_no_uuid_is_refused_with_its_path(text: str) -> None:
    with pytest.raises(Invalid, match=r"^workflowId: .* is not a UUID$"):
        parse_id(text, path="workflowId")
