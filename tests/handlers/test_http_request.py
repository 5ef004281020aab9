"""`http_request` against small servers of its own, written on sockets so that they can misbehave."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from qw.core.errors import Misconfigured
from qw.core.expression import Expression, ExpressionError
from qw.core.task.handler_api import Reject, Retry
from qw.core.task.payload import MAX_RESULT
from qw.handlers import Handlers
from qw.handlers.answer import MAX_READ, MAX_STORED, ResponseTooLarge, UnreadableResponse
from qw.handlers.egress import Egress, EgressRefused, redact
from qw.handlers.http_request import ClientError, HttpOptions, ServerError, add_http_request, retry_after
from qw.handlers.transport import TooManyRedirects
from tests.handlers.context import MemoryContext, run

Reply = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server on loopback. ``requests`` has the text of every request it got, head and body."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def header(self, name: str) -> str | None:
        lines = self.requests[-1].split("\r\n\r\n")[0].split("\r\n")[1:]
        headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
        return headers.get(name.lower())


@asynccontextmanager
async def serving(reply: Reply | bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((int(line[15:]) for line in head.lower().split("\r\n") if line[:15] == "content-length:"), 0)
            body = await reader.readexactly(length)
            server.requests.append(head + body.decode())
            if isinstance(reply, bytes):
                writer.write(reply)
                await writer.drain()
            else:
                await reply(head.split()[1], writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server = Server(listener.sockets[0].getsockname()[1])
    async with listener:
        yield server


def answer(body: bytes | str = b"", status: str = "200 OK", **headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    fields = {"Content-Length": str(len(content)), "Connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + content


def redirect(to: str, status: str = "302 Found") -> bytes:
    return answer(b"", status, Location=to)


async def ask(
    payload: dict[str, Any],
    *,
    egress: Egress | None = None,
    base_url: str | None = None,
    context: MemoryContext | None = None,
) -> Any:
    """Run the handler once; loopback is allowed unless *egress* says otherwise."""
    app = Handlers()
    close = add_http_request(app, HttpOptions(egress=egress or Egress.allowing("127.0.0.0/8"), base_url=base_url))
    try:
        return await run(app, "http_request", payload, context)
    finally:
        await close()


async def test_a_json_answer_is_stored_as_a_value() -> None:
    async with serving(answer('{"id": 7, "name": "Zoë"}', Content_Type="application/json")) as server:
        result = await ask({"url": f"{server.url}/x"})

    assert result["status"] == 200
    assert result["response"] == {"id": 7, "name": "Zoë"}
    assert result["headers"]["content-type"] == "application/json"
    assert "truncated" not in result


async def test_method_headers_and_body_are_sent_as_given() -> None:
    async with serving(answer("ok")) as server:
        result = await ask(
            {"url": f"{server.url}/a?b=c", "method": "post", "headers": {"X-Number": 3}, "body": {"ä": [1, None]}}
        )

    assert result["response"] == "ok"
    assert server.requests[0].startswith("POST /a?b=c HTTP/1.1\r\n")
    assert json.loads(server.requests[0].split("\r\n\r\n")[1]) == {"ä": [1, None]}
    assert server.header("content-type") == "application/json"
    assert server.header("x-number") == "3"


async def test_the_task_id_is_the_idempotency_key_and_the_trace_goes_on() -> None:
    context = MemoryContext(headers={"traceparent": "00-1-2-01"})
    async with serving(answer()) as server:
        await ask({"url": server.url}, context=context)

    assert server.header("idempotency-key") == str(context.task_id)
    assert server.header("traceparent") == "00-1-2-01"


async def test_an_idempotency_key_of_the_payload_wins() -> None:
    async with serving(answer()) as server:
        await ask({"url": server.url, "headers": {"idempotency-key": "mine"}})

    assert server.header("idempotency-key") == "mine"
    assert server.requests[0].lower().count("idempotency-key") == 1


async def test_a_server_error_fails_with_the_documented_text() -> None:
    context = MemoryContext()
    async with serving(answer("out of order", "500 Oops")) as server:
        with pytest.raises(ServerError) as caught:
            await ask({"url": server.url}, context=context)

    assert str(caught.value) == "Request failed with status code 500"
    assert context.logs == [("ERROR", "answered 500: out of order")]


async def test_a_client_error_is_an_ordinary_failure() -> None:
    async with serving(answer("", "404 Not Found")) as server:
        with pytest.raises(ClientError, match=r"^Request failed with status code 404$"):
            await ask({"url": server.url})


async def test_retry_after_is_honoured_for_503() -> None:
    async with serving(answer("", "503 Later", Retry_After="17")) as server:
        with pytest.raises(Retry, match=r"^Request failed with status code 503$") as caught:
            await ask({"url": server.url})

    assert caught.value.after == timedelta(seconds=17)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("0", timedelta(0)),
        ("Tue, 24 Nov 2026 12:01:00 GMT", timedelta(minutes=1)),
        ("Tue, 24 Nov 2026 11:00:00 GMT", timedelta(0)),
        ("-5", None),
        ("nan", None),
        ("1e18", None),
        ("soon", None),
        ("", None),
    ],
)
def test_odd_retry_after_values_are_ignored(text: str, after: timedelta | None) -> None:
    assert retry_after({"retry-after": text}, datetime(2026, 11, 24, 12, tzinfo=UTC)) == after


async def test_a_relative_url_is_resolved_against_the_base() -> None:
    async with serving(answer()) as server:
        await ask({"url": "/users/1"}, base_url=f"{server.url}/api/")
        await ask({"url": "users/1"}, base_url=f"{server.url}/api/")

    assert [request.split()[1] for request in server.requests] == ["/users/1", "/api/users/1"]


async def test_a_relative_url_without_a_base_names_the_setting() -> None:
    with pytest.raises(Reject, match="QW_HTTP_BASE_URL"):
        await ask({"url": "/users/1"})


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        ({}, "url"),
        ({"url": "http://x", "method": "CONNECT"}, "method"),
        ({"url": "http://x", "timeout": "soon"}, "timeout"),
        ({"url": "http://x", "headers": {"A": "b\r\nC: d"}}, "headers.A"),
        ({"url": "http://x", "headers": {"A b": "c"}}, "headers"),
        ({"url": "http://x", "headers": {"Content-Length": "3"}}, "headers"),
        ({"url": "http://[::1"}, "url"),
    ],
)
async def test_a_bad_payload_is_rejected_with_its_place(payload: dict[str, Any], place: str) -> None:
    with pytest.raises(Reject, match=place):
        await ask(payload)


async def test_a_refused_connection_is_a_failure_that_names_the_request() -> None:
    async with serving(answer()) as server:
        url = server.url

    with pytest.raises(Exception, match=f"GET {url}/x") as caught:
        await ask({"url": f"{url}/x"})

    assert type(caught.value).__name__ == "ConnectError"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[fd00::1]/",
        "http://[fe80::1]/",
        "http://[fec0::1]/",
    ],
)
async def test_addresses_that_are_not_public_are_refused(url: str) -> None:
    with pytest.raises(Reject, match=r"not a public address|Invalid IPv4 address"):
        await ask({"url": url}, egress=Egress())


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://x/", "unix:/run/x.sock", "ftp://x/", "http:///x"])
async def test_only_http_and_https_are_spoken(url: str) -> None:
    with pytest.raises(Reject, match="http:// or https://"):
        await ask({"url": url})


@pytest.mark.parametrize("allow", ["127.0.0.1", "127.0.0.0/8", "127.0.0.1:{port}", "http://127.0.0.1:{port}/x"])
async def test_what_the_operator_allows_is_reached(allow: str) -> None:
    async with serving(answer("in")) as server:
        result = await ask({"url": server.url}, egress=Egress.allowing(allow.format(port=server.port)))

    assert result["response"] == "in"


async def test_a_host_can_be_allowed_by_its_name() -> None:
    async with serving(answer("in")) as server:
        url = f"http://localhost:{server.port}/"
        result = await ask({"url": url}, egress=Egress.allowing("LocalHost"))
        with pytest.raises(EgressRefused):
            await ask({"url": server.url}, egress=Egress.allowing("localhost"))

    assert result["response"] == "in"


@pytest.mark.parametrize("allow", ["127.0.0.1:1", "10.0.0.0/8", "localhost", "http://127.0.0.1/"])
async def test_nothing_else_is_reached(allow: str) -> None:
    async with serving(answer()) as server:
        with pytest.raises(EgressRefused):
            await ask({"url": server.url}, egress=Egress.allowing(allow))

    assert server.requests == []


@pytest.mark.parametrize("allow", ["", "a/b", "*.internal", "10.0.0.0/99", "host:port"])
def test_a_rule_that_means_nothing_is_a_configuration_error(allow: str) -> None:
    with pytest.raises(Misconfigured):
        Egress.allowing(allow)


async def test_a_name_is_resolved_once_and_that_address_is_used() -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async with serving(answer("first")) as server:
        egress = Egress.allowing("127.0.0.1", resolve=rebinding)
        result = await ask({"url": f"http://rebind.example:{server.port}/"}, egress=egress)

    assert result["response"] == "first"
    assert asked == ["rebind.example"]
    assert server.header("host") == f"rebind.example:{server.port}"


async def test_a_name_with_one_private_address_is_refused() -> None:
    async def mixed(host: str, port: int) -> Sequence[str]:
        return ["93.184.216.34", "10.0.0.1"]

    with pytest.raises(EgressRefused, match=r"10\.0\.0\.1"):
        await ask({"url": "http://mixed.example/"}, egress=Egress(resolve=mixed))


async def test_the_certificate_is_checked_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=named.example", "-addext", "subjectAltName=DNS:named.example"),
            *("-keyout", tmp_path / "key.pem", "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, tmp_path / "key.pem")
    seen: list[str | None] = []
    tls.sni_callback = lambda socket, name, context: seen.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def here(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    egress = Egress.allowing("127.0.0.1", resolve=here)
    async with serving(answer("secret"), tls) as server:
        result = await ask({"url": f"https://named.example:{server.port}/"}, egress=egress)
        with pytest.raises(Exception, match="certificate"):
            await ask({"url": f"https://other.example:{server.port}/"}, egress=egress)

    assert result["response"] == "secret"
    assert seen == ["named.example", "other.example"]


async def test_a_redirect_to_an_internal_address_is_refused() -> None:
    async with serving(answer("internal")) as internal, serving(redirect(internal.url)) as public:
        with pytest.raises(EgressRefused):
            await ask({"url": public.url}, egress=Egress.allowing(f"127.0.0.1:{public.port}"))

    assert internal.requests == []


@pytest.mark.parametrize("to", ["file:///etc/passwd", "gopher://127.0.0.1/"])
async def test_a_redirect_to_another_scheme_fails(to: str) -> None:
    async with serving(redirect(to)) as server:
        with pytest.raises(Exception, match=r"file|gopher|protocol"):
            await ask({"url": server.url})


async def test_five_redirects_are_followed_and_six_are_not() -> None:
    async def countdown(path: str, writer: asyncio.StreamWriter) -> None:
        left = int(path[1:])
        writer.write(redirect(f"/{left - 1}") if left else answer("there"))
        await writer.drain()

    async with serving(countdown) as server:
        assert (await ask({"url": f"{server.url}/5"}))["response"] == "there"
        with pytest.raises(TooManyRedirects):
            await ask({"url": f"{server.url}/6"})


async def test_credentials_do_not_follow_to_another_origin() -> None:
    secrets = {"Authorization": "Bearer s3cret", "Cookie": "sid=1", "X-Api-Key": "k", "Accept": "text/plain"}
    async with serving(answer("there")) as other, serving(redirect(f"{other.url}/x", "307 Moved")) as first:
        await ask({"url": first.url, "method": "POST", "headers": secrets, "body": "keep"})

    assert first.header("authorization") == "Bearer s3cret"
    assert [other.header(name) for name in ("authorization", "cookie", "x-api-key")] == [None, None, None]
    assert other.header("accept") == "text/plain"
    assert other.header("host") == f"127.0.0.1:{other.port}"
    assert other.requests[0].endswith("\r\n\r\nkeep")


async def test_a_password_in_the_url_does_not_follow_either() -> None:
    async with serving(answer()) as other, serving(redirect(other.url)) as first:
        await ask({"url": first.url.replace("http://", "http://me:pw@")})

    assert str(first.header("authorization")).startswith("Basic ")
    assert other.header("authorization") is None


async def test_cookies_of_one_task_are_not_sent_for_another() -> None:
    app = Handlers()
    close = add_http_request(app, HttpOptions(egress=Egress.allowing("127.0.0.0/8")))
    async with serving(answer(Set_Cookie="sid=1")) as server:
        await run(app, "http_request", {"url": server.url})
        await run(app, "http_request", {"url": server.url})
        await close()

    assert server.header("cookie") is None


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer("proxied")) as proxy, serving(answer("direct")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        result = await ask({"url": server.url})

    assert result["response"] == "direct"
    assert proxy.requests == []


async def test_a_long_answer_is_stored_in_part() -> None:
    async with serving(answer(b'"' * (MAX_STORED * 2))) as server:
        result = await ask({"url": server.url})

    assert result["truncated"] is True
    assert 0 < len(json.dumps(result)) <= MAX_STORED + 1000


async def test_an_endless_answer_fails_and_costs_no_memory() -> None:
    async def endless(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with serving(endless) as server:
        with pytest.raises(ResponseTooLarge, match=f"{MAX_READ:,}"):
            await ask({"url": server.url})


async def test_a_gzip_bomb_fails_and_costs_no_memory() -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(100)) + packer.flush()
    async with serving(answer(bomb, Content_Encoding="gzip")) as server:
        tracemalloc.start()
        with pytest.raises(ResponseTooLarge):
            await ask({"url": server.url})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 8 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_packed_answers_are_unpacked(encoding: str) -> None:
    packed = gzip.compress("grüße".encode()) if encoding == "gzip" else zlib.compress("grüße".encode())
    async with serving(answer(packed, Content_Encoding=encoding)) as server:
        assert (await ask({"url": server.url}))["response"] == "grüße"


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "gzip"])
async def test_an_answer_that_cannot_be_unpacked_fails(encoding: str) -> None:
    async with serving(answer(b"not packed", Content_Encoding=encoding)) as server:
        with pytest.raises(UnreadableResponse):
            await ask({"url": server.url})


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
async def test_silence_and_dripping_end_at_the_deadline(start: bytes) -> None:
    async def dripping(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            if start:
                writer.write(b"x")
            await asyncio.sleep(0.05)

    started = time.monotonic()
    async with serving(dripping) as server:
        with pytest.raises(TimeoutError, match=r"no complete answer within 0.3 s"):
            await ask({"url": server.url, "timeout": "300ms"})

    assert time.monotonic() - started < 30


async def test_a_hundred_thousand_headers_fail() -> None:
    many = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)) + b"\r\n"
    async with serving(many) as server:
        with pytest.raises(Exception, match="GET http") as caught:
            await ask({"url": server.url})

    assert type(caught.value).__name__ == "RemoteProtocolError"


async def test_passwords_and_queries_stay_out_of_errors() -> None:
    async with serving(answer()) as server:
        port = server.port

    with pytest.raises(Exception, match="GET http") as caught:
        await ask({"url": f"http://me:hunter2@127.0.0.1:{port}/x?token=t0ken"})

    assert "hunter2" not in str(caught.value)
    assert "t0ken" not in str(caught.value)
    assert redact("http://me:hunter2@h:1/x?token=t") == "http://h:1/x?…"


async def test_unstorable_json_becomes_storable() -> None:
    body = '{"nul": "a\\u0000b", "inf": 1e999, "big": 123456789012345678901234567890, "half": "\\ud800"}'
    async with serving(answer(body, Content_Type="application/json")) as server:
        result = await ask({"url": server.url})

    assert result["response"] == {
        "nul": "a\ufffdb",
        "inf": None,
        "big": "123456789012345678901234567890",
        "half": "\ufffd",
    }


async def test_deep_json_is_stored_as_text() -> None:
    async with serving(answer("[" * 50_000 + "]" * 50_000, Content_Type="application/json")) as server:
        result = await ask({"url": server.url})

    assert result["response"].startswith("[[[[")


async def test_the_connection_is_closed_when_the_attempt_is_cancelled() -> None:
    reached, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        await reader.read()
        closed.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        attempt = asyncio.create_task(ask({"url": url}))
        await asyncio.wait_for(reached.wait(), 5)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await asyncio.wait_for(closed.wait(), 5)


def test_importing_the_handler_does_not_import_httpx() -> None:
    code = "import sys, qw.handlers.http_request; sys.exit('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0


async def test_a_long_answer_is_marked_as_cut_and_no_expression_reads_it() -> None:
    async with serving(answer(b"x" * (MAX_STORED + 10), **{f"X-Header-{n}": "y" * 3000 for n in range(6)})) as server:
        result = await ask({"url": server.url})

    assert len(result["response"]) < MAX_STORED
    assert len(orjson.dumps(result)) <= MAX_RESULT
    for key, why in (
        ("response", f"the answer has {MAX_STORED + 10:,} bytes"),
        ("headers", "the answer's headers are"),
    ):
        with pytest.raises(ExpressionError, match=f"steps.s.result.{key} is not whole: {why}"):
            Expression.parse(f"steps.s.result.{key}").value({"steps": {"s": {"result": result}}})


async def test_the_cut_of_a_failed_answer_is_told_in_the_log() -> None:
    context = MemoryContext()
    async with serving(answer(b"x" * 5000, "500 Oh no")) as server:
        with pytest.raises(ServerError):
            await ask({"url": server.url}, context=context)

    assert context.logs[-1][1].endswith("x… (3,000 characters more)")
