"""The ASGI application: all routes of the table, behind the guard."""

from __future__ import annotations

from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from qw.client import Client
from qw.config import Settings
from qw.web.callers import Authenticate
from qw.web.endpoint import Endpoint, problem_response
from qw.web.errors import not_found
from qw.web.guard import Guard
from qw.web.openapi import document
from qw.web.pages import Pages
from qw.web.route import Route
from qw.web.routes import (
    audit,
    details,
    docs,
    events,
    health,
    invoice,
    overview,
    queue_manager,
    queues,
    recurring,
    run_timeline,
    runs,
    scheduler,
    schedules,
    search,
    seeder,
    session,
    tasks,
    workflows,
)
from qw.web.site import Site, WebOptions

TABLE: tuple[Route, ...] = (  # tried in this order: the most frequent first
    *tasks.ROUTES,
    *queue_manager.ROUTES,
    *scheduler.ROUTES,
    *invoice.ROUTES,
    *workflows.ROUTES,
    *runs.ROUTES,
    *run_timeline.ROUTES,
    *recurring.ROUTES,
    *schedules.ROUTES,
    *overview.ROUTES,
    *audit.ROUTES,
    *details.ROUTES,
    *search.ROUTES,
    *queues.ROUTES,
    *events.ROUTES,
    *health.ROUTES,
    *docs.ROUTES,
    *session.ROUTES,
)


def application(
    client: Client,
    settings: Settings | None = None,
    options: WebOptions | None = None,
    *,
    authenticate: Authenticate | None = None,
) -> Starlette:
    """Return the HTTP API and the dashboard over *client*, which the caller opens and closes.

    Mount it in another Starlette or FastAPI application under any path. *authenticate* returns the caller of a request
    with their role. Without it, the tokens of *settings* identify callers; without tokens, everyone on this machine is
    an admin.

    Set ``state.closing`` to end streams and waits; `serving` does so before it stops.
    """
    settings, options = settings or Settings(), options or WebOptions()
    routes = table(settings, options)
    site = Site(client, settings, options, partial(document, routes), authenticate)
    served = [StarletteRoute(route.path, Endpoint(route, site), methods=[route.method]) for route in routes]
    app = Starlette(
        routes=[*served, *Pages(site).routes()],
        middleware=[
            Middleware(
                Guard,
                settings=settings,
                access_log=options.access_log,
                is_local=not settings.api_tokens and authenticate is None,
            )
        ],
        exception_handlers={HTTPException: _no_such_route},
    )
    app.state.closing = site.closing
    return app


def table(settings: Settings, options: WebOptions) -> tuple[Route, ...]:
    """Return the routes to serve. Those for sample data need ``options.seeder``, and no access tokens."""
    return (*TABLE, *seeder.ROUTES) if options.seeder and not settings.api_tokens else TABLE


async def _no_such_route(request: Request, error: Exception) -> Response:
    return problem_response(not_found(request.method, request.url.path))
