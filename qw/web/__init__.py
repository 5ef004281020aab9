"""The HTTP API: a shell over `Client` that holds no rule of its own.

`application` is made of one table of routes; `serving` listens in the caller's own loop. The caller owns the client:
give it a pool of its own, so that requests cannot starve the workers.
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
