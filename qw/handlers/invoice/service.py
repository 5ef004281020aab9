"""Calls to the operator's own services: orders, PDF and e-mail.

The host and port of their URLs are allowed because the operator configured them; other addresses must be public.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from qw.core.task.handler_api import Failure
from qw.core.task.payload import shortened
from qw.handlers.answer import ENCODINGS, ResponseTooLarge, UnreadableResponse, content
from qw.handlers.egress import Egress, EgressRefused
from qw.handlers.http_clients import client


class ServiceFailed(Failure):
    """The service could not be reached, or its response is unusable. The text gives the reason, without the URL."""


@dataclass(frozen=True, kw_only=True)
class ServiceCall:
    method: str
    url: str
    timeout: timedelta
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    most: int = 1024 * 1024  # maximum bytes of the response


async def answer(call: ServiceCall) -> Any:
    """Return the JSON response of the service (fractions as Decimal), None for an empty body.

    Raise ServiceFailed unless a 2xx with JSON arrives within the timeout.
    """
    import httpx

    from qw.handlers.transport import TooManyRedirects

    try:
        async with asyncio.timeout(call.timeout.total_seconds()):
            content = await _content(call)
    except TimeoutError:
        raise ServiceFailed(f"no answer within {call.timeout.total_seconds():g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceFailed(f"{type(error).__name__}: {error}") from None
    except ResponseTooLarge:
        raise ServiceFailed(f"the answer is longer than {call.most:,} bytes") from None
    except (UnreadableResponse, EgressRefused, TooManyRedirects) as error:
        raise ServiceFailed(str(error)) from None
    try:
        return json.loads(content, parse_float=Decimal) if content.strip() else None
    except (ValueError, RecursionError):
        raise ServiceFailed("the answer is not JSON") from None


async def _content(call: ServiceCall) -> bytes:
    import httpx

    from qw.handlers.transport import send

    url = httpx.URL(call.url).copy_merge_params(dict(call.query))
    headers = {**call.headers, "Accept-Encoding": ENCODINGS}
    async with client(Egress().also(call.url)) as calls:
        response = await send(calls, calls.build_request(call.method, url, headers=headers, json=call.body))
        try:
            said = await content(response, most=call.most)
        finally:
            await response.aclose()
    if not response.is_success:
        text = shortened(said.decode(errors="replace").strip(), 500)
        raise ServiceFailed(f"status code {response.status_code}: {text}".rstrip(": "))
    return said
