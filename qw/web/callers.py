"""Who asks: a token in a header, a session cookie that stands for one, or what the program around this one says.

A session is a cookie that names a token and is signed with its secret: every process with the same tokens knows it, and
it ends with its token. A request that is let in by a cookie and changes something must repeat a value that only our own
pages can read: `Session.csrf`.
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
    """``expires_at``: seconds since 1970, in the database's time. ``csrf``: what a change must bring in a header."""

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
        """Whether it is time to renew it."""
        return self.expires_at - clock.seconds() < SESSION_SECONDS / 2


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, and what they may do. ``is_known``: the name was checked. ``session``: where a cookie let them in."""

    name: str
    role: Role
    is_known: bool = True
    session: Session | None = None

    def may(self, role: Role) -> bool:
        return _RANKS[self.role] >= _RANKS[role]


ANYBODY = Caller(name="http", role=Role.ADMIN, is_known=False)  # who calls where nobody is asked for a name

Authenticate = Callable[[HTTPConnection], Caller | Awaitable[Caller | None] | None]
"""Of a program that has an authentication of its own: who sends a request; None: nobody that it knows."""


def session_of(scope: Scope, tokens: Sequence[Token]) -> Session | None:
    """The session that the request's cookie stands for; None without one, or with one that is over or forged."""
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
    """The same session with all of its time before it; other tabs keep what they repeat."""
    return Session(token=session.token, id=session.id, expires_at=_end())


def cookie_name(tokens: Sequence[Token]) -> str:
    """Of this set of tokens alone: browsers do not tell cookies of two ports apart."""
    digest = sha256("\n".join(f"{token.name}:{token.secret}" for token in tokens).encode()).hexdigest()
    return f"qw_session_{digest[:8]}"


def known_caller(scope: Scope, tokens: Sequence[Token], guesses: Guesses) -> Caller:
    """Who bears a token or a session of one.

    Raise Problem 401 without a known one, 403 for a change that another page may have asked for, 429 when too many
    wrong ones came from its address.
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
    """The token with this secret. Every one is compared, in time that does not depend on where they differ."""
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
