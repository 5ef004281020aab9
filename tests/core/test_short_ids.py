"""How much of an id is enough."""

from __future__ import annotations

from uuid import UUID

import pytest

from qw.core.ids import prefix_of, short_length


@pytest.mark.parametrize(
    ("other", "length"),
    [
        ("01890000-0001-7000-8000-000000000000", 13),
        ("01890000-0000-7001-8000-000000000000", 18),
        ("01890000-0000-7000-8000-000000000000", 18),
        ("01890000-0000-7abc-9000-000000000000", 20),
        ("01890000-0000-7abc-8000-000000000001", 36),
    ],
)
def test_an_id_is_as_short_as_its_neighbour_allows(other: str, length: int) -> None:
    id = UUID("01890000-0000-7abc-8000-000000000000")

    found = short_length([id], [UUID(other)])

    assert found <= length
    assert str(id)[:found] != other[:found]
    assert not str(id)[:found].endswith("-")


def test_a_prefix_has_at_least_four_digits() -> None:
    assert prefix_of(" 0189-00 ") == "018900"
    assert [prefix_of(text) for text in ("018", "xyz1", "", "0" * 33)] == [None] * 4
