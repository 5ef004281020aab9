"""A web application: uvicorn main:api."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from shop import resize
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.requests import HTTPConnection

from qw import Client, NotFound
from qw.web import Caller, Role, application

URL = os.environ["DATABASE_URL"]


def who(request: HTTPConnection) -> Caller | None:
    """For the dashboard: the application's own authentication. Here a header, as a proxy in front would set it."""
    name = request.headers.get("x-staff")
    return Caller(name=name, role=Role.ADMIN) if name else None


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncGenerator[dict[str, Any]]:
    engine = create_async_engine(URL.replace("postgresql://", "postgresql+psycopg://"))
    async with Client(URL) as client:
        api.mount("/queue", application(client, authenticate=who))
        yield {"queue": client, "sessions": async_sessionmaker(engine)}
    await engine.dispose()


api = FastAPI(lifespan=lifespan)


def queue_of(request: Request) -> Client:
    queue: Client = request.state.queue
    return queue


async def session_of(request: Request) -> AsyncGenerator[AsyncSession]:
    """One transaction per request."""
    async with request.state.sessions.begin() as session:
        yield session


Queue = Annotated[Client, Depends(queue_of)]
Session = Annotated[AsyncSession, Depends(session_of, scope="function")]


@api.post("/photos", status_code=202)
async def add_photo(name: str, queue: Queue, session: Session) -> dict[str, Any]:
    """The photo and its task are stored together, or neither is."""
    photo = await session.scalar(text("insert into photo (name) values (:name) returning id"), {"name": name})
    task = await queue.enqueue_task(resize.new(photo=photo, sizes=[100, 200]), conn=session)
    if name == "broken":
        raise HTTPException(422, "not a photo")
    return {"photo": photo, "task": str(task.id)}


@api.get("/tasks/{id}/progress")
async def progress(id: UUID, queue: Queue) -> StreamingResponse:
    """Server-sent events, until the task is final."""
    try:
        await queue.tasks.get(id)
    except NotFound:
        raise HTTPException(404, f"there is no task {id}") from None
    return StreamingResponse(events(id, queue), media_type="text/event-stream")


async def events(id: UUID, queue: Client) -> AsyncIterator[str]:
    last = None
    while True:
        task, reported = await queue.tasks.get(id), await queue.tasks.progress(id)
        found = {"status": str(task.status), "progress": reported[0] if reported else 0.0, "result": task.result}
        if found != last:
            yield f"data: {json.dumps(found)}\n\n"
        if task.status.is_final:
            return
        last = found
        await asyncio.sleep(0.2)
