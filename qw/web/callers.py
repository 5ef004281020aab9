"""Authentication of requests: by a token in a header, a session cookie, or the surrounding program's own function.

A session is a cookie that names a token and is signed with the token's secret: every process with the same tokens
accepts it, and it ends when the token is removed. A request that is authenticated by a cookie and changes something
must repeat a value that only our own pages can read: `Session.csrf`.
"""

from __future__ import annotations

import base64
import hmac
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie

from starlette.requests import HTTPConnection
from starlette.types import Scope

from qw.clock import clock
from qw.config import Role, Token
from qw.web.errors import Problem
from qw.web.guesses import Guesses

SESSION_SECONDS = 12 * 3600  # after its last renewal
CSRF_HEADER = b"x-csrf-token"
CLIENT_HEADER = b"x-qw-client"  # "dashboard", from our own pages
_RANKS = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, kw_only=True)
class Session:
    """A session of the dashboard.

    ``expires_at``: seconds since 1970, in the database's time. ``csrf``: the value that requests with changes must
    send in a header.
    """

    token: Token
    id: str
    expires_at: int

    @property
    def cookie(self) -> str:
        return f"{_stated(self.token, self.id, self.expires_at)}.{_mac(self.token, self.id, str(self.expires_at))}"

    @property
    def csrf(self) -> str:
        return _mac(self.token, self.id, "csrf")

    @property
    def is_old(self) -> bool:
        """Whether the session should be renewed: less than half of its time is left."""
        return self.expires_at - clock.seconds() < SESSION_SECONDS / 2


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The sender of a request. ``is_known``: the name was authenticated. ``session``: the session, if a cookie
    authenticated the request.
    """

    name: str
    role: Role
    is_known: bool = True
    session: Session | None = None

    def may(self, role: Role) -> bool:
        return _RANKS[self.role] >= _RANKS[role]


ANYBODY = Caller(name="http", role=Role.ADMIN, is_known=False)  # the caller if requests are not authenticated

Authenticate = Callable[[HTTPConnection], Caller | Awaitable[Caller | None] | None]
"""The surrounding program's authentication: returns the caller of a request, or None if it is not authenticated."""


def session_of(scope: Scope, tokens: Sequence[Token]) -> Session | None:
    """Return the session of the request's cookie; None if there is no cookie, or it is expired or forged."""
    stated = _cookie(scope, cookie_name(tokens)).split(".")
    if len(stated) != 4 or not (stated[2].isascii() and stated[2].isdigit() and len(stated[2]) < 12):
        return None
    for token in tokens:
        session = Session(token=token, id=stated[1], expires_at=int(stated[2]))
        if hmac.compare_digest(session.cookie.encode(), ".".join(stated).encode()):
            return session if session.expires_at > clock.seconds() else None
    return None


def new_session(token: Token) -> Session:
    return Session(token=token, id=secrets.token_urlsafe(12), expires_at=_end())


def renewed(session: Session) -> Session:
    """Return the session with its full duration. The CSRF value stays the same, so other tabs keep working."""
    return Session(token=session.token, id=session.id, expires_at=_end())


def cookie_name(tokens: Sequence[Token]) -> str:
    """Return a name specific to this set of tokens: browsers send the cookies of one host to all its ports."""
    digest = sha256("\n".join(f"{token.name}:{token.secret}" for token in tokens).encode()).hexdigest()
    return f"qw_session_{digest[:8]}"


def known_caller(scope: Scope, tokens: Sequence[Token], guesses: Guesses) -> Caller:
    """Return the owner of the request's token or session.

    Raise Problem: 401 without a valid token or session, 403 for a change without the CSRF value, 429 after too many
    wrong tokens from the same address.
    """
    headers = [value for name, value in scope["headers"] if name == b"authorization"]
    if not headers and (session := session_of(scope, tokens)):
        if scope["method"] not in _SAFE and not _repeats(scope, session.csrf):
            raise Problem(
                403, "A change needs the header X-CSRF-Token, with the csrf of GET /api/ui/session", code="csrf"
            )
        return Caller(name=session.token.name, role=session.token.role, session=session)
    scheme, _, secret = headers[0].partition(b" ") if len(headers) == 1 else (b"", b"", b"")
    token = known_token(scope, secret.strip() if scheme.lower() == b"bearer" else b"", tokens, guesses)
    return Caller(name=token.name, role=token.role)


def known_token(scope: Scope, secret: bytes, tokens: Sequence[Token], guesses: Guesses) -> Token:
    """Return the token with this secret. All tokens are compared, in constant time."""
    if not secret:
        raise nobody()
    address = (scope.get("client") or ("", 0))[0]
    if wait := guesses.wait(address, secret):
        after = {"Retry-After": str(math.ceil(wait))}
        raise Problem(429, "Too many invalid tokens from this address; try again later", headers=after)
    known: Token | None = None
    for token in tokens:
        if hmac.compare_digest(token.secret.encode(), secret):
            known = token
    guesses.note(address, secret, is_right=known is not None)
    if known is None:
        raise nobody()
    return known


def nobody() -> Problem:
    return Problem(401, "A valid token is required: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})


def _repeats(scope: Scope, csrf: str) -> bool:
    headers = [value for name, value in scope["headers"] if name == CSRF_HEADER]
    return len(headers) == 1 and hmac.compare_digest(headers[0], csrf.encode())


def _cookie(scope: Scope, name: str) -> str:
    text = "; ".join(value.decode("latin-1") for key, value in scope["headers"] if key == b"cookie")
    try:
        morsel = SimpleCookie(text).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _end() -> int:
    return int(clock.seconds()) + SESSION_SECONDS


def _stated(token: Token, id: str, expires_at: int) -> str:
    return f"{base64.urlsafe_b64encode(token.name.encode()).decode().rstrip('=')}.{id}.{expires_at}"


def _mac(token: Token, id: str, purpose: str) -> str:
    key = sha256(b"qw session " + token.secret.encode()).digest()
    return hmac.new(key, f"{token.name}\n{token.role}\n{id}\n{purpose}".encode(), sha256).hexdigest()
