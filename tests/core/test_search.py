from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.errors import Invalid
from qw.core.search import Search, parse_search
from qw.core.task.task import Status

NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)
RUN = "0192a6c0-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", {}),
        ("  ", {}),
        ("status:failed", {"statuses": (Status.FAILED,)}),
        ("status:failed,cancelled status:running", {"statuses": (Status.FAILED, Status.CANCELLED, Status.PROCESSING)}),
        ("type:a queue:mail/eu", {"types": ("a",), "queues": ("mail/eu",)}),
        ("since:2h until:2026-11-28", {"since": NOW - timedelta(hours=2), "until": NOW.replace(hour=0)}),
        ("since:yesterday", {"since": NOW.replace(hour=0) - timedelta(days=1)}),
        (f"run:{RUN}", {"run_id": UUID(RUN)}),
        ("id:0192a6", {"low": UUID("0192a6" + "0" * 26), "high": UUID("0192a6" + "f" * 26)}),
        ("payload.customerId:zoe payload.a.b:5", {"payload": (("customerId", "zoe"), ("a.b", "5"))}),
        ('payload.name:"Zoe of \\"x\\"" "connection reset" bare',
         {"payload": (("name", 'Zoe of "x"'),), "errors": ("connection reset", "bare")}),
    ],
)  # fmt: skip
def test_a_search_means_what_it_says(text: str, meant: dict[str, Any]) -> None:
    assert parse_search(text, NOW) == Search(**meant)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("statsu:failed", "q: statsu:failed (there is no field 'statsu'; did you mean 'status'?"),
        ("status:fialed", "did you mean 'failed'?"),
        ("since:soon", "'soon' is not an age such as 2h"),
        ("since:1h since:2h", "since is there twice"),
        ("run:7", "'7' is not the id of a run"),
        ("id:xyz", "'xyz' is not the beginning of an id"),
        ('type:"a', "is not closed"),
        ("type:", "type: (the value is empty, or its quote is not closed)"),
        ("payload.:x", "there is no field 'payload.'"),
        ("a " * 21, "has 21 terms; at most 20"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_the_term(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_search(text, NOW)

    assert message in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_search_or_refused(text: str) -> None:
    try:
        found = parse_search(text, NOW)
    except Invalid:
        return
    assert all(term.value for term in found.terms)
