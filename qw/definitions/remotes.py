"""Types that workers elsewhere run, declared under ``remote:``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.expression.evaluation import kind
from qw.core.parsing import refuse_unknown, string
from qw.core.task.payload import Json, JsonObject
from qw.core.task.remote import Remote

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
_KEYS = ("queue", "url", "timeout", "max_retries", "description")


def parse_remote(name: str, document: Json, where: Callable[[str], str]) -> Remote:
    """The remote type in *document*; with neither queue nor url, the queue is ``qw.remote.<type>``."""
    faults: list[Fault] = []
    if not _NAME.fullmatch(name):
        faults.append(Fault(path="", message=f"{name[:60]!r} is not the name of a type"))
    remote = _remote(name, {} if document is None else document, faults)
    if faults or remote is None:
        raise Invalid(*(Fault(path=where(fault.path), message=fault.message) for fault in faults))
    return remote


def _remote(name: str, document: Json, faults: list[Fault]) -> Remote | None:
    if not isinstance(document, dict):
        faults.append(Fault(path="", message=f"a remote type must be an object, not {kind(document)}"))
        return None
    refuse_unknown(document, _KEYS, "", "a remote type", faults)
    string(document, "description", "", faults)
    url, queue = string(document, "url", "", faults), string(document, "queue", "", faults)
    if url and queue:
        faults.append(Fault(path="queue", message="give url: or queue:, not both"))
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        faults.append(Fault(path="url", message="must be a URL that begins with http:// or https://"))
    if queue and not _NAME.fullmatch(queue):
        faults.append(Fault(path="queue", message=f"{queue[:60]!r} is not a name"))
    return Remote(
        type=name,
        url=url or None,
        queue=None if url else queue or f"qw.remote.{name}",
        timeout=_timeout(document, faults),
        max_retries=_max_retries(document.get("max_retries", 3), faults),
    )


def _timeout(document: JsonObject, faults: list[Fault]) -> timedelta:
    try:
        timeout = parse_duration(document.get("timeout", "5m"))
    except Invalid as error:
        faults += [Fault(path="timeout", message=fault.message) for fault in error.faults]
        return timedelta(minutes=5)
    if not timeout:
        faults.append(Fault(path="timeout", message="must be greater than 0"))
    return timeout


def _max_retries(value: Json, faults: list[Fault]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000:
        return value
    faults.append(Fault(path="max_retries", message="must be an integer from 1 to 1000"))
    return 1
