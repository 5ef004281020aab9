"""Whatever is typed, sent or stored is read or refused with qw's own error, soon, and never ends anything else.

A few hundred inputs each in `make test`; `make fuzz` goes on for as long as it is told (QW_FUZZ_EXAMPLES per test).
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qw.core.duration import parse_duration
from qw.core.errors import QwError
from qw.core.expression import Condition, Scope, Template
from qw.core.schedule.cron import parse_cron
from qw.core.schedule.crontab import Account, command_of, parse_crontab
from qw.core.search import parse_search
from qw.core.task import inbound
from qw.core.task.payload import parse_object
from qw.core.workflow.workflow import parse_workflow
from qw.definitions import source
from tests.databases import Template as DatabaseTemplate
from tests.web.live import Live, live

fuzzed = settings(
    max_examples=int(os.environ.get("QW_FUZZ_EXAMPLES", "150")),
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NOW = datetime(2026, 3, 29, 1, 59, tzinfo=UTC)
SCOPE: Scope = {
    "input": {"n": 3, "s": "a", "list": [1, "2", None, {"a": []}], "big": 10**15},
    "item": {"a": [1, 2]},
    "run": {"id": "r", "status": "running", "error": None},
    "steps": {"one": {"output": {"x": 1.5}, "status": "completed"}},
}


def written(*words: str, most: int = 25) -> st.SearchStrategy[str]:
    """Texts of *words* in any order, with anything between them; and any text."""
    piece = st.one_of(st.sampled_from(words), st.sampled_from(words), st.text(max_size=4))
    return st.one_of(st.lists(piece, max_size=most).map("".join), st.text(max_size=200))


def refused(read: Callable[[Any], Any], given: Any) -> Any:
    """What *read* makes of it; None if it was refused."""
    try:
        return read(given)
    except QwError:
        return None


EXPRESSIONS = written(
    "input",
    ".n",
    ".s",
    ".list",
    "steps.one.output",
    "item",
    "[0]",
    "[-1]",
    "['a']",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    " and ",
    " or ",
    "not ",
    " in ",
    " && ",
    " || ",
    "!",
    " == ",
    " != ",
    " < ",
    " + ",
    " - ",
    " * ",
    " ** ",
    " // ",
    " % ",
    "'x'",
    '"y"',
    "1",
    "1e999",
    "0x10",
    "10**9",
    "true",
    "null",
    "len(",
    "lambda x: x",
    "__class__",
    "f'{x}'",
    " if ",
    " else ",
    "${{ ",
    " }}",
    "\\",
    "\n",
    "\0",
    "# ",
    "...",
    ":=",
    "*",
)


@fuzzed
@given(EXPRESSIONS)
def test_an_expression_is_read_and_evaluated_or_refused(text: str) -> None:
    template = refused(lambda text: Template.parse({"value": text}, where="with"), text)
    if template is not None and refused(lambda _: template.render(SCOPE), None) is not None:
        json.dumps(template.render(SCOPE))
    condition = refused(Condition.parse, text)
    if condition is not None:
        refused(condition.holds, SCOPE)


YAML = written(
    "version: 1\n",
    "workflows:\n",
    "  a:\n",
    "    steps:\n",
    "      - ",
    "{id: x, type: noop}\n",
    "needs: [x]\n",
    "with: {a: 1}\n",
    "&a ",
    "*a",
    "<<: ",
    "!!python/object:os.system ",
    "!!binary ",
    "|\n",
    ">-\n",
    "? ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "'",
    '"',
    "\t",
    "\n",
    "  ",
    "...\n",
    "---\n",
    "%YAML 1.1\n",
    "# x\n",
    "on: no\n",
    "1:30",
    "0o7",
    ".inf",
    "2026-01-01",
    "~",
    "\ufeff",
    "\x07",
)


_ESCAPED = re.compile(r"\\\\|\\u(d[89ab]..)\\u(d[c-f]..)")


def _as_yaml(found: re.Match[str]) -> str:
    """YAML has no surrogates, with which JSON escapes a character beyond the first 65,536."""
    if not found[1]:
        return found[0]
    character = json.loads(f'"{found[0]}"')
    return f"\\U{ord(character):08x}"


@fuzzed
@given(YAML)
def test_yaml_is_read_as_json_would_have_it_or_refused(text: str) -> None:
    found = refused(lambda text: source.read(text, "f.yaml"), text)

    if found is not None:
        again = source.read(_ESCAPED.sub(_as_yaml, json.dumps(found.value)), "f.yaml")
        assert again.value == found.value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "type", "steps", "needs", "with", "if", "retry", "foreach", "timeout", "inputs", "x", ""]
            )
            | st.text(max_size=5),
            below,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@fuzzed
@given(json_values)
def test_a_workflow_document_is_read_or_refused(document: Any) -> None:
    refused(lambda document: parse_workflow("w", document), document)


CRONS = written(
    "*",
    "0",
    "59",
    "60",
    "1-5",
    "*/5",
    "*/0",
    "5-1",
    ",",
    "/",
    "-",
    " ",
    "  ",
    "\t",
    "L",
    "#2",
    "mon",
    "SUN",
    "jan",
    "@daily",
    "@every",
    "@reboot",
    "TZ=UTC ",
    "?",
    "W",
    "31 2",
    "1-7/2",
    "٣",
    "99999",
    most=12,
)


@fuzzed
@given(CRONS, st.booleans())
def test_a_cron_expression_has_ascending_times_or_is_refused(text: str, seconds: bool) -> None:
    cron = refused(lambda text: parse_cron(text, seconds=seconds), text)

    if cron is not None:
        assert parse_cron(cron.text, seconds=seconds) == cron


CRONTABS = written(
    "* * * * * ",
    "@daily ",
    "0 4 * * mon ",
    "root ",
    "ann ",
    "echo a%b\\%c",
    "/bin/true",
    "MAILTO=",
    "SHELL=/bin/sh",
    "CRON_TZ=Europe/Rome",
    "TZ=x",
    "PATH = '/bin'",
    "\n",
    "\r\n",
    "\t",
    "#",
    "=",
    '"',
    "'",
    "%",
    "\\",
    "\udc80",
    "\0",
    most=20,
)


@fuzzed
@given(CRONTABS, st.sampled_from([None, True, False]))
def test_a_crontab_is_read_whole_with_what_was_left_out(text: str, system: bool | None) -> None:
    account = Account(name="ann", home="/home/ann")

    crontab = parse_crontab(text, timezone="UTC", account=account, system=system)

    for job in crontab.jobs:
        command_of(job.schedule)


@fuzzed
@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value, default=str).encode()))
def test_a_message_from_a_broker_is_read_or_refused(body: bytes) -> None:
    asked = refused(lambda body: inbound.read(body, None), body)
    if asked is not None:
        refused(lambda asked: inbound.task_of(asked, UUID(int=1)), asked)
    document = refused(parse_object, body)
    if document is not None:
        json.dumps(document)


@fuzzed
@given(written("1", "h", "m", "s", "d", "ms", "P", "PT", "T", ".", "-", " ", "e9", "999999999999", "½", most=6))
def test_a_duration_is_read_or_refused(text: str) -> None:
    refused(parse_duration, text)


@fuzzed
@given(
    written(
        "status:",
        "failed",
        "queue:",
        "type:",
        "payload.",
        "a.b",
        "=",
        '"',
        "-",
        "since:",
        "2h",
        "AND",
        "(",
        ")",
        " ",
        "*",
        ":",
    )
)
def test_a_search_is_read_or_refused(text: str) -> None:
    refused(lambda text: parse_search(text, NOW), text)


@pytest.fixture(scope="module")
def http_server(migrated_template: DatabaseTemplate) -> Iterator[Live]:
    with migrated_template.clone() as url, live(url) as started:
        yield started


HEADS: Sequence[bytes] = (
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"DELETE ",
    b"/api/task",
    b"/api/tasks?limit=",
    b"/livez",
    b"/%00",
    b"/..//",
    b"?a=%ff",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/9\r\n",
    b"Host: localhost\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: websocket\r\n",
    b"Content-Type: application/json\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Authorization: Bearer \xff\r\n",
    b"Idempotency-Key: a\r\n",
    b"\r\n",
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"{}",
    b'{"type": "noop"}',
    b'{"type": 1',
    b"\x00",
    b": x\r\n",
)
REQUESTS = st.lists(st.sampled_from(HEADS) | st.binary(max_size=6), max_size=14).map(b"".join)


@fuzzed
@given(REQUESTS)
def test_any_bytes_are_answered_or_hung_up_on_and_the_server_goes_on(http_server: Live, request_bytes: bytes) -> None:
    with socket.create_connection(
        (http_server.api.base_url.host, http_server.api.base_url.port or 80), timeout=10
    ) as sock:
        sock.sendall(request_bytes)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := _received(sock):
            answer += chunk

    status = answer.split(b" ", 2)[1:2]
    assert not answer or (answer.startswith(b"HTTP/1.") and status < [b"500"]), answer
    assert http_server.api.get("/livez").status_code == 200


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except ConnectionError:
        return b""
