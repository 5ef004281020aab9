"""The HTTP API over `Client`; it contains no rules of its own.

`application` is built from one table of routes; `serving` listens in the caller's event loop. The caller owns the
client and should give it its own connection pool, so that requests cannot starve the workers.
"""

from qw.config import Role
from qw.web.application import application
from qw.web.callers import Caller
from qw.web.server import check_free, open_sockets, serve, serving
from qw.web.site import ProcessHealth, Thresholds, WebOptions

__all__ = [
    "Caller",
    "ProcessHealth",
    "Role",
    "Thresholds",
    "WebOptions",
    "application",
    "check_free",
    "open_sockets",
    "serve",
    "serving",
]
