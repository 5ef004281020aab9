"""Health, readiness and liveness, for orchestrators and people, from a check that is at most a second old."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Literal

from starlette.responses import PlainTextResponse, Response
from typing_extensions import TypedDict

from qw import __version__
from qw.core.errors import QwError, Unreachable
from qw.store.errors import ConnectionRefused, NotReady, ReadOnly, WrongSchema
from qw.web.errors import RETRY_AFTER
from qw.web.fields import Form
from qw.web.json import JsonResponse
from qw.web.metrics import MEDIA
from qw.web.route import Request, get
from qw.web.site import HealthCheck


class Indicator(TypedDict, total=False):
    status: Literal["up", "down"]
    message: str
    count: int


class HealthReport(TypedDict):
    status: Literal["ok", "error"]
    info: dict[str, Indicator]
    error: dict[str, Indicator]
    details: dict[str, Indicator]


class VerboseQuery(Form):
    verbose: str | None = None


class Version(TypedDict):
    name: str
    version: str


async def report(call: Request[None, None]) -> Response:
    """Check the database, the broker and the workers, without calls to other services."""
    return _report(await call.site.health.get(), needs={"database", "worker"})


async def live(call: Request[None, None]) -> Response:
    """Liveness: the process responds and its worker, if any, is running. Does not query the database."""
    return _unless(call.site.options.process.trouble()) or PlainTextResponse("ok")


async def ready(call: Request[None, None]) -> Response:
    """Readiness: the database responds and the worker of this process, if any, accepts tasks."""
    return _unless(call.site.options.process.unready()) or _short(await call.site.health.get())


async def health(call: Request[None, VerboseQuery]) -> Response:
    """Readiness; with ``verbose`` also a report on the broker and the workers."""
    checked = await call.site.health.get()
    return _short(checked) if call.query.verbose is None else _report(checked, needs={"database"})


async def metrics(call: Request[None, None]) -> Response:
    """Get metrics in the Prometheus text format."""
    return Response(await call.site.metrics.get(), media_type=MEDIA)


async def version(call: Request[None, None]) -> Version:
    """Get the version of qw."""
    return {"name": "qw", "version": __version__}


def _unless(trouble: str | None) -> Response | None:
    if trouble is None:
        return None
    return PlainTextResponse(trouble, status_code=503, headers={"Retry-After": RETRY_AFTER})


def _short(health: HealthCheck) -> Response:
    if health.error is None:
        return PlainTextResponse("ok")
    return PlainTextResponse(
        f"the database {_database_trouble(health.error)}", status_code=503, headers={"Retry-After": RETRY_AFTER}
    )


def _report(health: HealthCheck, *, needs: Set[str]) -> Response:
    """Return the report: unhealthy if one of *needs* is down. Other failures only appear in the details."""
    details = _indicators(health)
    down = {name: indicator for name, indicator in details.items() if indicator["status"] == "down" and name in needs}
    if health.error is not None:
        down = details
    body: HealthReport = {
        "status": "error" if down else "ok",
        "info": {name: indicator for name, indicator in details.items() if indicator["status"] == "up"},
        "error": down,
        "details": details,
    }
    return JsonResponse(body, 503 if down else 200, {"Retry-After": RETRY_AFTER} if down else {})


def _indicators(health: HealthCheck) -> dict[str, Indicator]:
    if health.error is not None:
        away: Indicator = {"status": "down", "message": _database_trouble(health.error)}
        unknown: Indicator = {"status": "down", "message": "unknown while the database is unreachable"}
        return {"database": away, "broker": unknown, "worker": unknown}
    count = len(health.workers)
    worker: Indicator = {"status": "up", "count": count}
    troubled = sum(worker.trouble is not None for worker in health.workers)
    if troubled:
        worker["message"] = f"{troubled} of them cannot work; see qw status"
    if count and troubled == count:
        worker["status"] = "down"
    if not count:
        worker = {"status": "down", "message": "no worker is alive", "count": 0}
    return {"database": {"status": "up"}, "broker": _broker(health), "worker": worker}


def _database_trouble(error: QwError) -> str:
    """Return the public part of an error, without addresses and user names."""
    match error:
        case Unreachable():
            return "cannot be reached"
        case NotReady():
            return "is not ready: it is starting, recovering, stopping or out of connections"
        case ReadOnly():
            return "does not accept writes"
        case WrongSchema():
            return "has no matching qw schema"
        case ConnectionRefused():
            return "rejected the connection"
        case _:
            return str(error)


_BROKER_TROUBLES: Mapping[str | None, str] = {  # no addresses or users: the route needs no authentication
    "unreachable": "cannot be reached",
    "login": "rejected the login",
    "setup": "rejected the setup",
    None: "does not accept events",
}


def _broker(health: HealthCheck) -> Indicator:
    """Return the state of the broker. A broker that is down does not make the service unhealthy: only events wait
    for it.
    """
    if down := [relay for relay in health.relays if relay.state == "down"]:
        return {"status": "down", "message": f"{_BROKER_TROUBLES[down[0].reason]}; events wait for it"}
    brokers = ", ".join(sorted({relay.broker for relay in health.relays})) or "none"
    blocked = (
        "; events that cannot be published: qw events blocked" if any(r.state == "held" for r in health.relays) else ""
    )
    return {"status": "up", "message": brokers + blocked}


_Ok: Any = str

ROUTES = (
    get("/api/health", report, HealthReport, role=None, errors=(503,)),
    get("/livez", live, _Ok, role=None, media="text/plain", errors=(503,)),
    get("/readyz", ready, _Ok, role=None, media="text/plain", errors=(503,)),
    get(
        "/healthz", health, _Ok, role=None, media="text/plain", query=VerboseQuery, verbose=HealthReport, errors=(503,)
    ),
    get("/version", version, Version, role=None),
    get("/metrics", metrics, _Ok, media="text/plain"),
)
