"""Tasks that run after other tasks: the payload field, and the function with which their handlers wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from qw.core.task.after import AfterStatus, When
from qw.core.task.handler_api import Context, Reject

ComeAfter: TypeAlias = Callable[[Context, Sequence[UUID], When], Awaitable[Mapping[UUID, AfterStatus]]]
"""Waits for other tasks. Returns the statuses of those that have ended, in the order of the ids; at least one."""


class After(BaseModel, extra="forbid"):
    """The tasks that a task waits for, and the condition on their outcomes; see `When`."""

    tasks: list[UUID] = Field(min_length=1)
    when: When = When.ALL


async def no_others(context: Context, ids: Sequence[UUID], when: When) -> Mapping[UUID, AfterStatus]:
    raise Reject("after: this worker cannot wait for other tasks")
