"""Sessions of the dashboard: a cookie for a token, what it may do, and what is shown to whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from qw.client import Client
from qw.clock import clock
from qw.config import Role, Settings, Token, load
from qw.web import Caller, WebOptions, application
from qw.web.callers import SESSION_SECONDS, Session, cookie_name, session_of
from tests.web.live import Live, live
from tests.web.test_guard import TASK, TOKENS

if TYPE_CHECKING:
    from tests.databases import Template

SECRET = {"type": "noop", "payload": {"apiToken": "s3cret", "n": 1}}
ANN = Token(name="ann", role=Role.VIEWER, secret="s3cret-v")


@pytest.fixture(scope="module")
def guarded(migrated_template: Template) -> Iterator[Live]:
    with migrated_template.clone() as url, live(url, {"QW_API_TOKENS": TOKENS}) as started:
        yield started


class Browser:
    """A client that keeps cookies and repeats the CSRF value, as the pages do."""

    opened: ClassVar[list[httpx.Client]] = []

    def __init__(self, server: Live, secret: str | None = None) -> None:
        self.http = httpx.Client(base_url=server.base)
        self.opened.append(self.http)
        self.session: Any = None
        if secret is not None:
            self.session = self.http.post("/api/ui/login", json={"token": secret}).json()

    def post(self, path: str, body: object = None, csrf: str | None = None) -> httpx.Response:
        return self.http.post(path, json=body, headers={"X-CSRF-Token": csrf or self.session["csrf"]})


@pytest.fixture(autouse=True)
def close_browsers() -> Iterator[None]:
    yield
    while Browser.opened:
        Browser.opened.pop().close()


@pytest.mark.parametrize(
    ("secret", "role", "may"),
    [
        ("s3cret-v", "viewer", (False, False)), ("s3cret-o", "operator", (True, False)),
        ("s3cret-a", "admin", (True, True)),
    ],
)  # fmt: skip
def test_a_session_may_what_its_token_may(guarded: Live, secret: str, role: str, may: tuple[bool, bool]) -> None:
    browser = Browser(guarded, secret)

    session = browser.http.get("/api/ui/session").json()
    looked, acted = browser.http.get("/api/task"), browser.post("/api/task", TASK)
    limited = browser.http.put("/api/queues/q/limits", json={}, headers={"X-CSRF-Token": session["csrf"]})

    assert (session["role"], session["mayOperate"], session["mayAdmin"]) == (role, *may)
    assert session == browser.session
    assert looked.status_code == 200
    assert acted.status_code == (201 if may[0] else 403)
    assert (limited.status_code != 403) == may[1]


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(guarded: Live) -> None:
    answer = httpx.post(f"{guarded.base}/api/ui/login", json={"token": "s3cret-o"})
    secure = httpx.post(
        f"{guarded.base}/api/ui/login", json={"token": "s3cret-o"}, headers={"X-Forwarded-Proto": "https"}
    )

    flags = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= flags
    assert "secure" not in flags
    assert "; Secure" in secure.headers["set-cookie"]
    assert "s3cret" not in answer.headers["set-cookie"] + answer.text


@pytest.mark.parametrize("csrf", [None, "", "x", "0" * 64])
def test_a_change_without_the_csrf_value_is_refused(guarded: Live, csrf: str | None) -> None:
    browser = Browser(guarded, "s3cret-a")
    headers = {} if csrf is None else {"X-CSRF-Token": csrf}

    answer = browser.http.post("/api/task", json=TASK, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "csrf")


def test_the_csrf_value_of_another_session_is_refused(guarded: Live) -> None:
    one, other = Browser(guarded, "s3cret-a"), Browser(guarded, "s3cret-a")

    assert one.post("/api/task", TASK, csrf=other.session["csrf"]).status_code == 403


def test_who_is_not_logged_in_is_told_to(guarded: Live) -> None:
    browser = Browser(guarded)

    session = browser.http.get("/api/ui/session").json()

    assert (session["authenticated"], session["loginRequired"], session["role"]) == (False, True, None)
    assert browser.http.get("/api/task").status_code == 401
    assert browser.http.get("/").status_code == 200  # where to log in


def test_a_wrong_token_opens_no_session(guarded: Live) -> None:
    answer = httpx.post(f"{guarded.base}/api/ui/login", json={"token": "s3cret-x"})

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_after_logging_out_the_browser_has_no_session(guarded: Live) -> None:
    browser = Browser(guarded, "s3cret-v")

    browser.http.post("/api/ui/logout")

    assert not browser.http.cookies
    assert browser.http.get("/api/task").status_code == 401


def scope(session: Session | str) -> dict[str, Any]:
    value = session if isinstance(session, str) else session.cookie
    return {"headers": [(b"cookie", f"a=b; {cookie_name([ANN])}={value}".encode())]}


@pytest.mark.parametrize("seconds", [-1, 60])
def test_a_session_ends(seconds: int) -> None:
    session = Session(token=ANN, id="1", expires_at=int(clock.seconds()) + seconds)

    assert session_of(scope(session), [ANN]) == (session if seconds > 0 else None)


def test_a_session_ends_with_its_token_or_another_role() -> None:
    cookie = Session(token=ANN, id="1", expires_at=int(clock.seconds()) + 60).cookie
    changed = Token(name="ann", role=Role.VIEWER, secret="another")
    raised = Token(name="ann", role=Role.ADMIN, secret=ANN.secret)

    for token in (changed, raised):
        headers = [(b"cookie", f"{cookie_name([token])}={cookie}".encode())]
        assert session_of({"headers": headers}, [token]) is None


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c.d", "YW5u.1.99999999999.x", "YW5u.1.²²²²²²²².x", "...", "a" * 5000])
def test_a_forged_cookie_is_no_session(cookie: str) -> None:
    assert session_of({"headers": [(b"cookie", f"{cookie_name([ANN])}={cookie}".encode())]}, [ANN]) is None


def test_a_session_is_renewed_and_other_tabs_keep_their_csrf_value(guarded: Live) -> None:
    token = Token(name="bob", role=Role.OPERATOR, secret="s3cret-o")
    tokens = load({"QW_API_TOKENS": TOKENS}).api_tokens
    old = Session(token=token, id="1", expires_at=int(clock.seconds()) + SESSION_SECONDS // 3)
    browser = Browser(guarded)
    browser.http.cookies.set(cookie_name(tokens), old.cookie, domain="127.0.0.1")

    session = browser.http.get("/api/ui/session").json()

    assert browser.http.cookies[cookie_name(tokens)] != old.cookie
    assert session["csrf"] == old.csrf
    assert browser.post("/api/task", TASK, csrf=old.csrf).status_code == 201


def test_without_tokens_on_this_machine_everybody_is_admin_at_once(server_shared: Live) -> None:
    session = server_shared.get("/api/ui/session")

    assert (session["authenticated"], session["loginRequired"], session["role"]) == (True, False, "admin")


def test_a_server_that_is_read_only_refuses_every_change(url: str) -> None:
    with live(url, options=WebOptions(read_only=True)) as server:
        session = server.get("/api/ui/session")
        changed = server.api.post("/api/task", json=TASK)
        looked = server.api.get("/api/task")

    assert (session["role"], session["readOnly"], session["mayOperate"]) == ("viewer", True, False)
    assert (changed.status_code, changed.json()["message"]) == (403, "This server is read-only")
    assert looked.status_code == 200


def test_what_looks_secret_is_masked_until_an_operator_reveals_it(guarded: Live) -> None:
    viewer, operator = Browser(guarded, "s3cret-v"), Browser(guarded, "s3cret-o")
    id = operator.post("/api/task", SECRET).json()["taskId"]

    masked, refused = viewer.http.get(f"/api/task/{id}"), viewer.http.get(f"/api/task/{id}?reveal=true")
    revealed = operator.http.get(f"/api/task/{id}?reveal=true")

    assert masked.json()["payload"] == {"apiToken": "***", "n": 1}
    assert refused.status_code == 403
    assert revealed.json()["payload"] == SECRET["payload"]


def test_hidden_payloads_are_in_no_answer_and_cannot_be_revealed(url: str) -> None:
    run = {"name": "s", "cron": "0 0 1 1 *", "type": "noop", "payload": {"text": "between us"}}
    with live(url, {"QW_HIDE_PAYLOADS": "1"}) as server:
        id = server.task(payload={"text": "between us"})
        server.post("/api/schedules", run)
        answers = [server.api.get(path) for path in (f"/api/task/{id}", "/api/task", "/api/schedules")]
        revealed = server.api.get(f"/api/task/{id}?reveal=true")

    assert [answer.status_code for answer in answers] == [200] * 3
    assert not [answer for answer in answers if "between us" in answer.text]
    assert revealed.status_code == 403


async def test_a_program_around_it_says_who_asks(url: str) -> None:
    def authenticate(connection: HTTPConnection) -> Caller | None:
        user = connection.headers.get("x-user")
        return Caller(name=user, role=Role.OPERATOR if user == "ann" else Role.VIEWER) if user else None

    async with Client(url, size=2) as client:
        app = Starlette(routes=[Mount("/qw", application(client, Settings(), authenticate=authenticate))])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://shop.example/qw/") as http:
            nobody = await http.get("api/task")
            viewer = await http.post("api/task", json=TASK, headers={"x-user": "bob"})
            operator = await http.post("api/task", json=TASK, headers={"x-user": "ann"})
            session = await http.get("api/ui/session", headers={"x-user": "ann"})

    assert (nobody.status_code, viewer.status_code, operator.status_code) == (401, 403, 201)
    assert (session.json()["name"], session.json()["loginRequired"]) == ("ann", False)


def test_a_proxy_that_changes_the_host_stops_no_page_of_our_own(guarded: Live) -> None:
    browser = Browser(guarded, "s3cret-o")
    own = {"Origin": "https://qw.example", "Sec-Fetch-Site": "same-origin", "X-CSRF-Token": browser.session["csrf"]}

    assert browser.http.post("/api/task", json=TASK, headers=own).status_code == 201
    assert browser.http.post("/api/task", json=TASK, headers={**own, "Sec-Fetch-Site": "same-site"}).status_code == 403


async def test_the_program_in_the_documentation_mounts_it(url: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    (program,) = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    names: dict[str, Any] = {}

    exec(program.replace("postgresql://app@db/app", url), names)

    app = names["app"]
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        answers = [await http.get("/qw/api/task", headers=headers) for headers in ({"x-forwarded-user": "ann"}, {})]
    assert [answer.status_code for answer in answers] == [200, 401]
