from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.task.printed import MAX_LINE, cut, lines_of

PARTS = [b"a", b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xa9", "\u2028".encode(), b"x" * 9000]


def printed(data: bytes) -> bytes:
    return b"".join(f"{text}\n".encode() if raw is None else raw for text, raw in lines_of(data))


@given(st.lists(st.sampled_from(PARTS)))
def test_the_bytes_can_be_had_again_from_the_lines(parts: list[bytes]) -> None:
    data = b"".join(parts)

    assert printed(data) == data
    assert all(len(text) <= MAX_LINE and "\n" not in text for text, _ in lines_of(data))


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\n\nb\n", [("a", None), ("", None), ("b", None)]),
        (b"a", [("a", b"a")]),
        (b"a\r\n", [("a", b"a\r\n")]),
        (b"1%\r2%\n", [("1%", b"1%\r"), ("2%", b"2%\n")]),
        (b"\xff\0\n", [("\ufffd\ufffd", b"\xff\0\n")]),
        ("e\u2028\x0bf\n".encode(), [("e\u2028\x0bf", None)]),
    ],
)
def test_only_what_a_line_cannot_say_is_kept_as_bytes(data: bytes, lines: list[tuple[str, bytes | None]]) -> None:
    assert list(lines_of(data)) == lines


@pytest.mark.parametrize("sign", ["a", "\u00e9", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("before", range(4))
def test_an_endless_line_is_cut_between_characters(sign: str, before: int) -> None:
    data = b"b" * before + sign.encode() * MAX_LINE

    for length in range(MAX_LINE, MAX_LINE + 8):
        ready, rest = cut(data[:length])
        assert ready + rest == data[:length]
        assert len(rest) <= 4
        ready.decode()


def test_a_line_without_end_waits_for_it_while_it_is_short() -> None:
    assert cut(b"one\ntwo") == (b"one\n", b"two")
