"""Sample data: enabled by a setting, and never available if access tokens are configured."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from qw.client.samples import Sampled
from qw.config import Role
from qw.web.fields import Form, Stamp, Whole
from qw.web.route import Request, delete, post
from qw.web.serializers import stamp


class SeedForm(Form):
    tasks_per_type: Annotated[Whole, Field(ge=1, le=10_000)] = 10


class SeedResult(TypedDict):
    workflows: int
    tasks: int
    taskLogs: int


class Seeded(TypedDict):
    message: str
    timestamp: Stamp
    result: SeedResult


async def seed(call: Request[SeedForm, None]) -> Seeded:
    """Add sample workflows and finished tasks; does nothing if the database has tasks."""
    done = await call.client.samples.add(per_type=call.body.tasks_per_type)
    return _said("Database seeded successfully", done)


async def reset(call: Request[SeedForm, None]) -> Seeded:
    """Delete all tasks, workflows and runs, then add the samples."""
    await call.client.samples.clear()
    done = await call.client.samples.add(per_type=call.body.tasks_per_type)
    return _said("Database reset successfully", done)


async def clear(call: Request[Any, None]) -> Seeded:
    """Delete all tasks, workflows and runs."""
    await call.client.samples.clear()
    return _said("Database cleared successfully", Sampled())


def _said(message: str, done: Sampled) -> Seeded:
    result: SeedResult = {"workflows": done.workflows, "tasks": done.tasks, "taskLogs": done.lines}
    return {"message": message, "timestamp": stamp(datetime.now(UTC)), "result": result}


ROUTES = (
    post("/api/seeder/seed", seed, Seeded, body=SeedForm, status=200, role=Role.ADMIN, extra_seconds=300.0),
    post("/api/seeder/reset", reset, Seeded, body=SeedForm, status=200, role=Role.ADMIN, extra_seconds=300.0),
    delete("/api/seeder/clear", clear, Seeded, role=Role.ADMIN),
)
