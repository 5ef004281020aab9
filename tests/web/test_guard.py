"""Who may ask: tokens and roles, the names of this server, pages from elsewhere; and what every answer carries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from qw.config import Settings, check_listening, load
from qw.core.errors import Misconfigured
from qw.daemon.http import check_tokens
from qw.web import WebOptions
from qw.web.guesses import Guesses
from tests.web.live import Live, live

if TYPE_CHECKING:
    from tests.databases import Template

TOKENS = "ann:viewer:s3cret-v,bob:operator:s3cret-o,eve:admin:s3cret-a"
TASK = {"type": "noop", "payload": {}}


@pytest.fixture(scope="module")
def guarded(migrated_template: Template) -> Iterator[Live]:
    with (
        migrated_template.clone() as url,
        live(url, {"QW_API_TOKENS": TOKENS}, options=WebOptions(seeder=True)) as started,
    ):
        yield started


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", "Bearer s3cret-a s3cret-a")],
        [("Authorization", "Bearer s3cret-")],
        [("Authorization", "Basic czNjcmV0LWE=")],
        [("Authorization", "s3cret-a")],
        [("Authorization", "Bearer s3cret-a"), ("Authorization", "Bearer s3cret-a")],
        [("Authorization", "Bearer s3cret-\xff")],
        [("X-Token", "s3cret-a")],
    ],
)
def test_without_one_good_token_every_call_is_401(guarded: Live, headers: list[tuple[str, str]]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]

    answers = [guarded.api.get(f"/api/task{query}", headers=raw) for query in ("", "?token=s3cret-a")]

    for answer in answers:
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["error"] == "Unauthorized"


def test_listening_to_the_world_needs_a_token_that_is_not_empty() -> None:
    with pytest.raises(Misconfigured, match="QW_API_TOKENS"):
        check_listening(load({"QW_HOST": "0.0.0.0"}))
    with pytest.raises(Misconfigured, match="no part may be empty"):
        load({"QW_HOST": "0.0.0.0", "QW_API_TOKENS": "ann:admin:"})


@pytest.mark.parametrize(
    ("secret", "statuses"),
    [("s3cret-v", (200, 403, 403)), ("s3cret-o", (200, 201, 404)), ("s3cret-a", (200, 201, 404))],
)
def test_a_role_may_do_what_those_below_it_may(guarded: Live, secret: str, statuses: tuple[int, ...]) -> None:
    api, headers = guarded.api, bearer(secret)

    seen = (
        api.get("/api/task", headers=headers).status_code,
        api.post("/api/task", json=TASK, headers=headers).status_code,
        api.delete("/api/workflows/00000000-0000-7000-8000-000000000000", headers=headers).status_code,
    )

    assert seen == statuses


def test_samples_are_never_served_where_tokens_are_set(guarded: Live) -> None:
    answer = guarded.api.post("/api/seeder/reset", headers=bearer("s3cret-a"))

    assert (answer.status_code, answer.json()["message"]) == (404, "Cannot POST /api/seeder/reset")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/api/health", "/version", "/openapi.json", "/docs"])
def test_probes_and_the_documentation_are_open(guarded: Live, path: str) -> None:
    status = guarded.api.get(path).status_code

    assert status == (503 if path == "/api/health" else 200)  # there is no worker


def test_a_token_is_in_no_log_line_and_no_answer(guarded: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    answers = [
        guarded.api.post("/api/task?token=s3cret-a", json={"type": "nope", "payload": {}}, headers=bearer("s3cret-o")),
        guarded.api.get("/api/task", headers=bearer("s3cret-x")),
        guarded.api.get("/metrics", headers=bearer("s3cret-v")),
    ]

    assert [answer.status_code for answer in answers] == [400, 401, 200]
    server_lines = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    texts = [str(record.__dict__) for record in server_lines] + [answer.text for answer in answers]
    assert not [text for text in texts if "s3cret" in text]
    assert "s3cret" not in repr(load({"QW_API_TOKENS": TOKENS}))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:3030", 200), ("127.0.0.1", 200), ("[::1]:3030", 200), ("LOCALHOST", 200),
        ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil.example:3030", 403), ("[::1", 403),
    ],
)  # fmt: skip
def test_a_name_that_was_rebound_to_this_machine_is_refused(server_shared: Live, host: str, status: int) -> None:
    answer = server_shared.api.get("/api/task", headers={"Host": host})

    assert answer.status_code == status


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999", "http://127.0.0.1"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_page_from_another_origin_is_refused(server_shared: Live, origin: str, method: str) -> None:
    before = server_shared.get("/api/task")["total"]

    answer = server_shared.api.request(method, "/api/task", headers={"Origin": origin}, json=TASK)

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert server_shared.get("/api/task")["total"] == before


def test_a_form_or_an_image_on_another_page_reaches_nothing(server_alone: Live) -> None:
    api = server_alone.api

    form = api.post("/api/task", data={"type": "noop"})
    image = api.get("/api/task", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})
    link = api.get("/docs", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})

    assert (form.status_code, image.status_code, link.status_code) == (415, 403, 200)


def test_our_own_pages_may_ask(server_shared: Live) -> None:
    answer = server_shared.api.post("/api/task", json=TASK, headers={"Origin": server_shared.base})

    assert answer.status_code == 201


def test_a_listed_origin_is_reflected_with_credentials(url: str) -> None:
    origin = "https://app.example"
    with live(url, {"QW_CORS_ORIGINS": origin}) as started:
        asked = started.api.options("/api/task", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        done = started.api.post("/api/task", json=TASK, headers={"Origin": origin})
        other = started.api.options("/api/task", headers={"Origin": "https://evil.example"})

    assert (asked.status_code, done.status_code, other.status_code) == (204, 201, 204)
    for answer in (asked, done):
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in answer.headers["vary"].split(", ")
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("path", ["/api/task", "/api/nope", "/livez", "/api/task/abc"])
def test_no_answer_may_be_framed_sniffed_or_kept(server_shared: Live, path: str) -> None:
    headers = server_shared.api.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_what_users_write_is_never_markup(server_alone: Live) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    id = server_alone.task(payload={nasty: nasty, "url": "javascript:alert(1)"})

    task = server_alone.api.get(f"/api/task/{id}")
    wrong = server_alone.api.get(f"/api/{nasty}")

    assert task.json()["payload"][nasty] == nasty
    assert task.headers["content-type"] == "application/json"
    assert wrong.headers["content-type"] == "application/problem+json"


def test_a_path_cannot_write_a_log_line_of_its_own(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="qw.web.access")
    with live(url, options=WebOptions(access_log=True)) as started:
        started.api.get("/api/a%0d%0aINFO%20forged%1b[31m", params={"token": "s3cret"})

    (line,) = [record for record in caplog.records if record.name == "qw.web.access"]
    fields = line.__dict__
    assert (fields["method"], fields["status"]) == ("GET", 404)
    assert fields["path"] == "/api/a\\r\\nINFO forged\\u001b[31m"
    assert "s3cret" not in str(fields)


def test_settings_have_no_tokens_by_default() -> None:
    assert Settings().api_tokens == ()


def test_the_scheme_of_the_token_is_taken_in_any_case(guarded: Live) -> None:
    answers = [
        guarded.api.get("/api/queues", headers={"Authorization": f"{scheme} s3cret-v"}).status_code
        for scheme in ("Bearer", "bearer", "BEARER")
    ]

    assert answers == [200, 200, 200]


def test_who_guesses_tokens_must_wait_ever_longer_and_who_has_one_need_not() -> None:
    now = [0.0]
    guesses = Guesses(lambda: now[0])
    guesses.note("10.0.0.1", b"known", is_right=True)
    for number in range(30):
        assert guesses.wait("10.0.0.1", b"%d" % number) == 0.0
        guesses.note("10.0.0.1", b"%d" % number, is_right=False)

    waits = []
    for _ in range(3):
        waits.append(guesses.wait("10.0.0.1", b"next"))
        now[0] += waits[-1]
        guesses.note("10.0.0.1", b"next", is_right=False)

    assert waits == [1.0, 2.0, 4.0]
    assert guesses.wait("10.0.0.1", b"known") == 0.0
    assert guesses.wait("10.0.0.2", b"next") == 0.0
    now[0] += 600
    assert guesses.wait("10.0.0.1", b"next") == 0.0


def test_a_token_that_nobody_may_try_now_is_not_looked_at(url: str) -> None:
    with live(url, {"QW_API_TOKENS": TOKENS}) as started:
        for number in range(30):
            assert started.api.get("/api/queues", headers=bearer(f"wrong-{number}")).status_code == 401
        refused = started.api.get("/api/queues", headers=bearer("s3cret-v"))

    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("host", "is_refused"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_a_short_token_is_refused_where_others_could_guess_it(host: str, is_refused: bool) -> None:
    settings = load({"QW_HOST": host, "QW_API_TOKENS": "me:admin:sixteen-letters!,ci:admin:hush"})

    if is_refused:
        with pytest.raises(Misconfigured, match="the secret of ci is shorter than 16 characters"):
            check_tokens(settings)
    else:
        check_tokens(settings)
