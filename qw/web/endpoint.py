"""Handles one request: authenticates, validates, calls the handler and converts errors."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qw.client.acting import Actor, acting
from qw.core.errors import QwError
from qw.web.callers import ANYBODY, CLIENT_HEADER
from qw.web.compression import compressed, takes_gzip
from qw.web.errors import RETRY_AFTER, Problem, problem_of
from qw.web.json import JsonResponse
from qw.web.request import ClientGone, body_of, query_of
from qw.web.route import Nothing, Request, Route
from qw.web.site import Site

log = logging.getLogger(__name__)

ANSWER_SECONDS = 15.0  # time limit of a handler; routes can extend it

PROBLEM = "application/problem+json"


class Endpoint:
    """The ASGI application of one route."""

    def __init__(self, route: Route, site: Site) -> None:
        self._route = route
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except ClientGone:
            return
        self._site.requests[self._route.method, self._route.path, response.status_code] += 1
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        route = self._route
        try:
            caller = ANYBODY if route.role is None else await self._site.caller(scope, route.role)
            asked = query_of(scope, route.query or Nothing, is_strict=route.is_strict)
            query = asked if route.query else None
            body = await body_of(scope, receive, route.body, is_strict=route.is_strict) if route.takes_body else None
            call: Request[Any, Any] = Request(site=self._site, scope=scope, body=body, query=query, caller=caller)
            answer = await _in_time(route, call)
        except Problem as problem:
            return problem_response(problem)
        except QwError as error:
            return problem_response(problem_of(error))
        except ClientGone:
            raise
        except Exception:
            log.exception("request failed", extra={"route": f"{route.method} {route.path}"})
            return problem_response(Problem(500, "Internal error; see the server log for details"))
        if isinstance(answer, Response):
            return answer
        response = JsonResponse(answer, route.status)
        return await compressed(response) if takes_gzip(call.header(b"accept-encoding") or "") else response


async def _in_time(route: Route, call: Request[Any, Any]) -> Any:
    """Return the result of the handler. Raise Problem 503 at the timeout: the database may be frozen or unreachable.

    A statement that was sent is cancelled, which takes up to ten seconds more; whether it took effect is unknown.
    """
    try:
        wait_seconds = call.wait_seconds if route.waits else 0.0
        async with asyncio.timeout(ANSWER_SECONDS + route.extra_seconds + wait_seconds) as limit:
            with acting(_actor(call)):
                return await route.handler(call)
    except TimeoutError:
        if not limit.expired():
            raise
        raise Problem(503, "The database did not answer in time", headers={"Retry-After": RETRY_AFTER}) from None


def _actor(call: Request[Any, Any]) -> Actor:
    """Return the actor for the audit."""
    is_page = call.caller.session is not None or call.header(CLIENT_HEADER) == "dashboard"
    return Actor(call.caller.name, "dashboard" if is_page else "http")


def problem_response(problem: Problem) -> Response:
    response = JsonResponse(problem.body(), problem.status, problem.headers)
    response.headers["Content-Type"] = PROBLEM
    return response
