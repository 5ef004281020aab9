"""Task types that remote workers run, declared under ``remote:``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from qw.core.errors import Fault
from qw.core.fields import POSITIVE_DURATION, TEXT, URL, Field, Object, integer, text_of
from qw.core.parsing import raise_at
from qw.core.task.payload import Json
from qw.core.task.remote import Remote

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")

REMOTE = Object(
    "a remote type",
    {
        "queue": Field(text_of(_NAME, "is not a name"), "Queue at the broker; default: qw.remote.TYPE"),
        "url": Field(URL, "Address that tasks are sent to by POST, instead of a queue"),
        "timeout": Field(POSITIVE_DURATION, "Maximum duration of an attempt", default=timedelta(minutes=5)),
        "max_retries": Field(integer(1, 1000), "Maximum number of attempts, including the first", default=3),
        "description": Field(TEXT),
    },
    ref="remote",
    must="a remote type must be an object",
)


def parse_remote(name: str, document: Json, where: Callable[[str], str]) -> Remote:
    """Return the remote type in *document*; without queue and url, the queue is ``qw.remote.<type>``."""
    faults: list[Fault] = []
    if not _NAME.fullmatch(name):
        faults.append(Fault(path="", message=f"{name[:60]!r} is not the name of a type"))
    fields = REMOTE.read({} if document is None else document, "", faults)
    url, queue = fields["url"], fields["queue"]
    if url and queue:
        faults.append(Fault(path="queue", message="give url: or queue:, not both"))
    raise_at(where, faults)
    return Remote(
        type=name,
        url=url,
        queue=None if url else queue or f"qw.remote.{name}",
        timeout=fields["timeout"],
        max_retries=fields["max_retries"],
    )
