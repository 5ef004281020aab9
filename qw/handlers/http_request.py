"""`http_request`: calls a URL; a 2xx response completes the task, any other fails the attempt."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema

from qw.core.duration import parse_duration
from qw.core.errors import Invalid
from qw.core.task.after import AfterStatus
from qw.core.task.handler_api import Context, Failure, Reject, Retry
from qw.core.task.masking import masked_text
from qw.core.task.payload import Json, shortened
from qw.core.task.secret_mask import SecretMask
from qw.handlers.after import After, ComeAfter, no_others
from qw.handlers.answer import ENCODINGS, HttpAnswer, read
from qw.handlers.egress import Egress, redact
from qw.handlers.http_clients import Clients
from qw.handlers.registry import Handlers
from qw.handlers.secrets import Reveal, Revealed, no_secrets

if TYPE_CHECKING:
    import httpx

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_FRAMING = {"connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"}
_HEADER = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_LOGGED = 2000  # characters of a failed response


class HttpStatusError(Failure):
    """The response status was not 2xx. The error's kind is ``http:`` and the status."""


class ClientError(HttpStatusError):
    """The status was 4xx."""


class ServerError(HttpStatusError):
    """The status was 5xx."""


async def _unsigned(headers: Mapping[str, str], url: str, body: bytes) -> dict[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """The HTTP settings of a daemon. *egress*: where requests may go. *base_url*: the base of relative URLs.

    *egress* must allow *base_url* too. *sign* returns additional headers for a request, from the task's headers, the
    URL and the body. *exempt* returns a URL whose host and port the request may connect to in addition, from the
    task's headers and the URL; None for none. *reveal* returns the headers of a step that contain secrets.
    *come_after* waits for other tasks, and returns how they ended.
    """

    egress: Egress = field(default_factory=Egress)
    base_url: str | None = None
    sign: Callable[[Mapping[str, str], str, bytes], Awaitable[dict[str, str]]] = _unsigned
    exempt: Callable[[Mapping[str, str], str], str | None] = lambda headers, url: None
    reveal: Reveal = no_secrets
    come_after: ComeAfter = no_others


def _duration(value: object) -> timedelta:
    try:
        return parse_duration(value)
    except Invalid as error:
        raise ValueError(str(error)) from None


def _header_text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Duration = Annotated[timedelta, BeforeValidator(_duration), WithJsonSchema({"type": ["string", "number"]})]
HeaderText = Annotated[
    str, BeforeValidator(_header_text), StringConstraints(pattern=f"^{_HEADER.pattern}$", max_length=8192)
]
Method = Annotated[
    Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]


class HttpPayload(BaseModel):
    url: str = Field(min_length=1, max_length=8192)
    method: Method = "GET"
    headers: dict[str, HeaderText] = {}
    body: Any = None
    timeout: Duration = timedelta(seconds=30)
    secrets: list[str] = []
    after: After | None = None


def add_http_request(app: Handlers, options: HttpOptions) -> Callable[[], Awaitable[None]]:
    """Register `http_request`. Await the returned function, in the loop that ran it, to close its connections."""
    clients = Clients(options.egress)

    @app.handler("http_request")
    async def http_request(payload: HttpPayload, context: Context) -> Json:
        if payload.after:
            ended = await options.come_after(context, payload.after.tasks, payload.after.when)
            payload = _telling(payload, ended)
        client = clients.current(options.exempt(context.headers, payload.url))
        revealed = await options.reveal(context) if payload.secrets else Revealed()
        payload = payload.model_copy(update={"headers": {**payload.headers, **_plain(revealed)}})
        request = await _request(client, options, payload, context)
        answer = _masked(await _ask(client, request, payload.timeout), revealed.mask)
        if not 200 <= answer.status < 300:
            text = masked_text(shortened(answer.text, _LOGGED))  # the response may repeat the URL
            await context.log(f"answered {answer.status}: {text}", level="ERROR")
            raise _failure(answer)
        return answer.stored()

    return clients.close


def _telling(payload: HttpPayload, ended: Mapping[UUID, AfterStatus]) -> HttpPayload:
    """Return *payload*; if it has no body, with a body that describes how the first of the tasks ended."""
    if payload.body is not None:
        return payload
    first, status = next(iter(ended.items()))
    text = f"task {first} {status.ended}"
    return payload.model_copy(update={"body": {"text": text, "taskId": str(first), "status": str(status)}})


def _plain(revealed: Revealed) -> Mapping[str, str]:
    """Return the headers of *revealed*. Raise Reject, without showing the value, if a header cannot be sent."""
    for name, value in revealed.values.items():
        if not _HEADER.fullmatch(value):
            raise Reject(f"headers: {name}: its secret has a line break or another control character, or is too long")
    return revealed.values


def _masked(answer: HttpAnswer, mask: SecretMask) -> HttpAnswer:
    """Mask the secrets in *answer*, which may repeat the request; also drop the beginning of one at a cut."""
    text = answer.text.encode()
    if answer.truncated:
        text = text[: mask.settled(text)]
    headers = {name: mask.text(value) for name, value in answer.headers.items()}
    return replace(answer, text=mask.data(text).decode(errors="replace"), headers=headers)


async def _request(
    client: httpx.AsyncClient, options: HttpOptions, payload: HttpPayload, context: Context
) -> httpx.Request:
    content, content_type = _content(payload)
    ours: dict[str, str] = {
        "Accept-Encoding": ENCODINGS,
        "Idempotency-Key": context.idempotency_key,
        **{name: context.headers[name] for name in ("traceparent", "tracestate") if name in context.headers},
        **await options.sign(context.headers, payload.url, content or b""),
    }
    if content_type:
        ours["Content-Type"] = content_type
    names = {name.lower() for name in payload.headers}
    kept = {name: value for name, value in ours.items() if name.lower() not in names}
    raw = [(name.encode(), value.encode()) for name, value in {**kept, **_checked(payload.headers)}.items()]
    return client.build_request(payload.method, target(payload.url, options.base_url), headers=raw, content=content)


def target(url: str, base_url: str | None) -> httpx.URL:
    """Return the absolute http(s) URL for *url*. Raise Reject if it is invalid, or relative without *base_url*."""
    import httpx

    try:
        whole = httpx.URL(url)
        if not whole.scheme:
            if base_url is None:
                raise Reject(f"url: {redact(url)!r} is relative; give the whole URL or set QW_HTTP_BASE_URL")
            whole = httpx.URL(base_url).join(whole)
    except (httpx.InvalidURL, ValueError) as error:
        raise Reject(f"url: {redact(url)} is not a URL: {error}") from None
    if whole.scheme not in ("http", "https") or not whole.host:
        raise Reject(f"url: {redact(url)} does not start with http:// or https:// and a host")
    return whole


def _checked(headers: dict[str, str]) -> dict[str, str]:
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise Reject(f"headers: {name[:60]!r} is not a header name")
        if name.lower() in _FRAMING:
            raise Reject(f"headers: {name} is set by the connection, not by the task")
    return headers


def _content(payload: HttpPayload) -> tuple[bytes | None, str | None]:
    """Return the body and its content type. An empty body is not sent with GET and HEAD."""
    body = payload.body
    if body is None or (not body and payload.method in ("GET", "HEAD")):
        return None, None
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"


async def _ask(client: httpx.AsyncClient, request: httpx.Request, timeout: timedelta) -> HttpAnswer:
    """Send *request* and read the response, within *timeout*. Errors name the request and keep their class."""
    import httpx

    from qw.handlers.transport import send

    place = f"{request.method} {redact(str(request.url))}"
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            response = await send(client, request)
            try:
                return await read(response)
            finally:
                await response.aclose()
    except TimeoutError:
        raise TimeoutError(f"{place}: no complete answer within {timeout.total_seconds():g} s") from None
    except httpx.TransportError as error:
        raise type(error)(f"{place}: {error}") from error


def _failure(answer: HttpAnswer) -> Exception:
    text, kind = f"Request failed with status code {answer.status}", f"http:{answer.status}"
    if answer.status in (429, 503) and (after := retry_after(answer.headers, datetime.now(UTC))) is not None:
        return Retry(text, after=after, kind=kind)
    classes = {4: ClientError, 5: ServerError}
    return classes.get(answer.status // 100, HttpStatusError)(text, kind=kind)


def retry_after(headers: dict[str, str], now: datetime) -> timedelta | None:
    """Return the delay that Retry-After asks for, in seconds or until a date by the server's clock, if any."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return timedelta(seconds=int(text))
    until = _date(text)
    if until is None:
        return None
    return max(until - (_date(headers.get("date", "")) or now), timedelta(0))


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
