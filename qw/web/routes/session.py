"""Sessions of the dashboard: log in with a token, see what one may do, log out."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from qw import __version__
from qw.config import Role
from qw.web.callers import (
    SESSION_SECONDS,
    Caller,
    Session,
    cookie_name,
    known_token,
    new_session,
    renewed,
)
from qw.web.fields import Form, Stamp, Text
from qw.web.json import JsonResponse
from qw.web.route import Request, get, post
from qw.web.serializers import stamp_of_seconds


class LoginForm(Form):
    """``token``: the secret of one of the tokens in ``QW_API_TOKENS``."""

    token: Text


class SessionEntity(TypedDict):
    authenticated: bool
    loginRequired: bool
    name: str | None
    role: Role | None
    mayOperate: bool
    mayAdmin: bool
    csrf: str | None
    readOnly: bool
    payloadsHidden: bool
    version: str
    expiresAt: Stamp | None


async def show(call: Request[None, None]) -> Any:
    """Get the logged-in user and their rights. Renews a session when half of its time is over."""
    caller = await call.site.caller_if_known(call.scope)
    session = caller.session if caller else None
    if session and session.is_old:
        return _with_cookie(call, renewed(session))
    return _entity(call, caller)


async def login(call: Request[LoginForm, None]) -> Any:
    """Log in: exchange a token for a session cookie, which ends 12 hours after its last renewal.

    A request that the cookie lets in and that changes something must have the header ``X-CSRF-Token`` with the ``csrf``
    of the session.
    """
    tokens = call.site.settings.api_tokens
    if not tokens:
        return _entity(call, await call.site.caller_if_known(call.scope))
    token = known_token(call.scope, call.body.token.encode(), tokens, call.site.guesses)
    return _with_cookie(call, new_session(token))


async def logout(call: Request[None, None]) -> Any:
    """Log out: delete the session cookie."""
    response = JsonResponse(_entity(call, None))
    response.delete_cookie(
        cookie_name(call.site.settings.api_tokens), path=_path(call), httponly=True, samesite="strict"
    )
    return response


def _with_cookie(call: Request[Any, Any], session: Session) -> JsonResponse:
    token = session.token
    response = JsonResponse(_entity(call, Caller(name=token.name, role=token.role, session=session)))
    response.set_cookie(
        cookie_name(call.site.settings.api_tokens),
        session.cookie,
        max_age=SESSION_SECONDS,
        path=_path(call),
        secure=(call.header(b"x-forwarded-proto") or call.scope["scheme"]) == "https",
        httponly=True,
        samesite="strict",
    )
    return response


def _path(call: Request[Any, Any]) -> str:
    """Return the path of the cookie: that of the mount. A prefix stripped by a proxy is unknown here."""
    return str(call.scope.get("root_path") or "/")


def _entity(call: Request[Any, Any], caller: Caller | None) -> SessionEntity:
    session = caller.session if caller else None
    return {
        "authenticated": caller is not None,
        "loginRequired": call.site.authenticate is None and bool(call.site.settings.api_tokens),
        "name": caller.name if caller else None,
        "role": caller.role if caller else None,
        "mayOperate": caller is not None and caller.may(Role.OPERATOR),
        "mayAdmin": caller is not None and caller.may(Role.ADMIN),
        "csrf": session.csrf if session else None,
        "readOnly": call.site.options.read_only,
        "payloadsHidden": call.site.settings.hide_payloads,
        "version": __version__,
        "expiresAt": stamp_of_seconds(session.expires_at) if session else None,
    }


ROUTES = (
    get("/api/ui/session", show, SessionEntity, role=None),
    post("/api/ui/login", login, SessionEntity, status=200, role=None, body=LoginForm, errors=(429,)),
    post("/api/ui/logout", logout, SessionEntity, status=200, role=None),
)
