"""A real HTTP service on loopback, in this process: it keeps what it was sent and answers what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn
from starlette.requests import Request
from starlette.responses import Response


@dataclass(kw_only=True)
class Received:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(kw_only=True)
class Service:
    url: str = ""
    status: int = 200
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = await request.body()
        self.received.append(
            Received(
                method=request.method,
                path=request.url.path,
                query=dict(request.query_params),
                headers=dict(request.headers),
                body=orjson.loads(body) if body else None,
            )
        )
        content = self.answer if isinstance(self.answer, bytes) else orjson.dumps(self.answer)
        await Response(content, self.status, self.headers, media_type="application/json")(scope, receive, send)


@asynccontextmanager
async def service(answer: Any = None, *, status: int = 200) -> AsyncIterator[Service]:
    app = Service(answer=answer, status=status)
    config = uvicorn.Config(app, port=0, loop="none", lifespan="off", ws="none", log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.005)
    app.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield app
    finally:
        server.should_exit = True
        await serving
