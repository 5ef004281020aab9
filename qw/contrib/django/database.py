"""The URL of the entry in `DATABASES` that qw uses."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

_DRIVERS = ("pool", "server_side_binding", "isolation_level", "assume_role", "client_encoding", "cursor_factory")


def aliases() -> set[str]:
    """The database aliases of all qw backends in `TASKS`."""
    backends = getattr(settings, "TASKS", {}).values()
    return {_alias(params) for params in backends if str(params.get("BACKEND", "")).startswith("qw.contrib.django")}


def the_alias() -> str:
    """The database alias for ``manage.py qw``. Raise ImproperlyConfigured if there is none, or more than one."""
    named = sorted(aliases())
    if len(named) != 1:
        raise ImproperlyConfigured(
            f"TASKS has {len(named)} databases with a qw backend ({', '.join(named) or 'none'}); manage.py qw needs one"
            " of them: set DATABASE_URL"
        )
    return named[0]


def _alias(params: dict[str, dict[str, str]]) -> str:
    return params.get("OPTIONS", {}).get("database", "default")


def url_of(alias: str) -> str:
    """The URL of the database that Django is connected to. During tests this is the test database."""
    database = connections[alias].settings_dict
    options = {name: str(value) for name, value in database.get("OPTIONS", {}).items() if name not in _DRIVERS}
    host = str(database.get("HOST") or "")
    if host.startswith("/"):  # a directory of sockets
        options["host"], host = host, ""
    user = quote(str(database.get("USER") or ""), safe="")
    password = quote(str(database.get("PASSWORD") or ""), safe="")
    who = f"{user}:{password}@" if password else f"{user}@" if user else ""
    port = f":{database['PORT']}" if database.get("PORT") and host else ""
    if database.get("PORT") and not host:
        options["port"] = str(database["PORT"])
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql://{who}{host}{port}/{quote(str(database.get('NAME') or ''), safe='')}{query}"
