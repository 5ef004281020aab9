"""Remote types: the handler sends the task to an external worker and waits for its answer.

The daemon keeps the claim during that time, so lease, fence, retries and timeout work as for any other task: if the
worker does not answer, the attempt times out, and if the daemon dies, the task is dispatched again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from qw.core.errors import Unavailable
from qw.core.task.error_kind import CONNECTION, TIMEOUT
from qw.core.task.handler_api import Context, Failure, Retry, Snooze
from qw.core.task.payload import Json, shortened
from qw.core.task.remote import Remote, request, result_of
from qw.handlers.answer import ENCODINGS, MAX_READ, content
from qw.handlers.egress import Egress
from qw.handlers.http_clients import client
from qw.handlers.registry import Handlers

Call: TypeAlias = Callable[[str, bytes], Awaitable[bytes]]  # takes queue and request; raises Unavailable

BROKER_AWAY_SECONDS = 5.0


def add_remote(app: Handlers, remotes: Sequence[Remote], call: Call | None) -> None:
    """Register handlers for *remotes*; *call* sends the tasks of those that have a queue."""
    for remote in remotes:
        _add(app, remote, call)


def _add(app: Handlers, remote: Remote, call: Call | None) -> None:
    @app.handler(remote.type, max_retries=remote.max_retries, timeout=remote.timeout)
    async def dispatch(payload: dict[str, Json], context: Context) -> Json:
        if remote.url is not None:
            return result_of(await _post(remote.url, remote, context))
        if remote.queue is None or call is None:
            raise Snooze(BROKER_AWAY_SECONDS, "no broker is configured to dispatch it")
        try:
            answer = await call(remote.queue, request(context))
        except Unavailable as error:
            await context.log(f"not dispatched: {error}", level="WARNING")
            raise Snooze(BROKER_AWAY_SECONDS, "the broker is away") from error
        return result_of(answer)


async def _post(url: str, remote: Remote, context: Context) -> bytes:
    """Return the body of a 2xx response. 429 and 503 raise Retry, any other status Failure.

    The host and port of *url* are allowed because the operator declared them; other addresses must be public.
    """
    import httpx

    from qw.handlers.transport import send

    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": ENCODINGS,
        "Idempotency-Key": context.idempotency_key,
    }
    try:
        async with asyncio.timeout(remote.timeout.total_seconds()), client(Egress().also(url)) as calls:
            response = await send(calls, calls.build_request("POST", url, content=request(context), headers=headers))
            try:
                answer = await content(response, most=MAX_READ)
            finally:
                await response.aclose()
    except TimeoutError:
        raise Failure(f"the worker did not answer within {remote.timeout.total_seconds():g} s", kind=TIMEOUT) from None
    except httpx.TransportError as error:
        raise Failure(f"the worker cannot be reached: {error or type(error).__name__}", kind=CONNECTION) from None
    kind = f"http:{response.status_code}"
    if response.status_code in (429, 503):
        raise Retry(f"the worker answered {response.status_code}", kind=kind)
    if not 200 <= response.status_code < 300:
        text = shortened(answer.decode(errors="replace"), 500)
        raise Failure(f"the worker answered {response.status_code}: {text}", kind=kind)
    return answer
