"""Calls to the operator's own services: orders, PDF and e-mail. They are configured, so no egress policy applies."""

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


class ServiceFailed(Failure):
    """The service could not be reached, or its answer is no use. The text says why and holds no address."""


@dataclass(frozen=True, kw_only=True)
class ServiceCall:
    method: str
    url: str
    timeout: timedelta
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    most: int = 1024 * 1024  # bytes of the answer


async def answer(call: ServiceCall) -> Any:
    """The JSON that the service answers *call* with (fractions as Decimal), None for an empty body.

    Raise ServiceFailed for anything but a 2xx with JSON in time.
    """
    import httpx

    try:
        async with asyncio.timeout(call.timeout.total_seconds()):
            content = await _content(call)
    except TimeoutError:
        raise ServiceFailed(f"no answer within {call.timeout.total_seconds():g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceFailed(f"{type(error).__name__}: {error}") from None
    try:
        return json.loads(content, parse_float=Decimal) if content.strip() else None
    except (ValueError, RecursionError):
        raise ServiceFailed("the answer is not JSON") from None


async def _content(call: ServiceCall) -> bytes:
    import httpx

    url = httpx.URL(call.url).copy_merge_params(dict(call.query))
    async with (
        httpx.AsyncClient(trust_env=False, timeout=None) as client,  # noqa: S113 — answer() limits the whole call
        client.stream(call.method, url, headers=dict(call.headers), json=call.body) as response,
    ):
        content = b""
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > call.most:
                raise ServiceFailed(f"the answer is longer than {call.most:,} bytes")
        if not response.is_success:
            said = shortened(content.decode(errors="replace").strip(), 500)
            raise ServiceFailed(f"status code {response.status_code}: {said}".rstrip(": "))
        return content
