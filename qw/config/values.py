"""Readers for values of settings. Each accepts text, or the TOML or flag value, and raises Invalid.

Error messages never contain the value of a setting that may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from qw.core.duration import format_duration, parse_duration
from qw.core.errors import Invalid, guess


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Transport(StrEnum):
    """A kind of broker."""

    NONE = "none"
    POSTGRES = "postgres"
    RABBITMQ = "rabbitmq"
    NATS = "nats"
    REDIS = "redis"


class Role(StrEnum):
    """The role of a token. Each role includes the rights of those before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token for the HTTP API. ``name`` identifies it in logs."""

    name: str
    role: Role
    secret: str = field(repr=False)


def line(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise Invalid("must be text on a single line")
    return value


def whole(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Invalid(f"{value!r} is not an integer from {low:,} to {high:,}")
        return value

    return read


def host(value: object) -> str:
    return line(value).strip("[]")


def port(value: object) -> int:
    if isinstance(value, str) and value.startswith("tcp://"):
        raise Invalid(
            f"{value!r} was set by Kubernetes for a service named qw; set enableServiceLinks: false in the pod spec"
        )
    return whole(1, 65_535)(value)


def duration(low: str) -> Callable[[object], timedelta]:
    def read(value: object) -> timedelta:
        duration = parse_duration(value)
        if duration < parse_duration(low):
            raise Invalid(f"{format_duration(duration)} is shorter than {low}")
        return duration

    return read


Choice = TypeVar("Choice", bound=StrEnum)


def one_of(kind: type[Choice]) -> Callable[[object], Choice]:
    def read(value: object) -> Choice:
        try:
            return kind(str(value).lower())
        except ValueError:
            known = [str(choice) for choice in kind]
            raise Invalid(f"{value!r} is not one of {', '.join(known)}{guess(str(value), known)}") from None

    return read


Item = TypeVar("Item")


def listed(read_item: Callable[[str], Item]) -> Callable[[object], tuple[Item, ...]]:
    """A list, or a text with items separated by commas or white space."""

    def read(value: object) -> tuple[Item, ...]:
        if isinstance(value, str):
            value = re.split(r"[\s,]+", value.strip(" \t\r\n,"))
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise Invalid("must be a list or comma-separated text")
        return tuple(dict.fromkeys(read_item(item) for item in value))

    return read


def name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}", value):
        raise Invalid(f"{value[:60]!r} is not a name: letters, digits and _ . : / - (at most 128)")
    return value


def variable(value: str) -> str:
    """The name of an environment variable, or a prefix such as ``AWS_*``."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}\*?", value):
        raise Invalid(f"{value[:60]!r} is not the name of an environment variable or a prefix such as AWS_*")
    return value


def secret_source(value: str) -> str:
    """An environment variable, a prefix (``SHOP_*``), or an absolute path, which may end with ``*``."""
    return value if value.startswith("/") else variable(value)


def network(value: str) -> str:
    """A network or address in canonical form, or a host name in lower case."""
    from ipaddress import ip_network

    try:
        return str(ip_network(value.strip("[]"), strict=False))
    except ValueError:
        pass
    if re.fullmatch(r"[0-9.]*", value) or not re.fullmatch(r"(?!-)[A-Za-z0-9.-]{1,253}", value):
        raise Invalid(f"{value[:60]!r} is not a network such as 10.0.0.0/8 or a host name")
    return value.lower().rstrip(".")


def origin(value: str) -> str:
    if value != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", value):
        raise Invalid(f"{value[:60]!r} is not an origin such as https://example.org, or *")
    return value.lower()


def token(value: str) -> Token:
    """Parse ``name:role:secret``. Error messages do not contain the value, since it may be a secret."""
    name, _, rest = value.partition(":")
    role, _, secret = rest.partition(":")
    if not name or role not in set(Role) or not secret:
        raise Invalid(
            f"each token must be name:role:secret with one of the roles {', '.join(Role)}; no part may be empty"
        )
    return Token(name=name, role=Role(role), secret=secret)


def tokens(value: object) -> tuple[Token, ...]:
    tokens = listed(token)(value)
    if len({token.name for token in tokens}) < len(tokens):
        raise Invalid("two tokens have the same name; names must be unique")
    return tokens


def url(*schemes: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        scheme, mark, rest = line(value).partition("://")
        if scheme.lower() not in schemes or not mark or not rest or " " in rest:
            raise Invalid(f"is not a URL starting with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return str(value)

    return read


def transport(value: object) -> Transport:
    """The name of a broker, in any common spelling."""
    name = str(value).lower()
    return one_of(Transport)({"rmq": "rabbitmq", "amqp": "rabbitmq", "postgresql": "postgres"}.get(name, name))


def broker_url(value: object) -> str:
    text = str(value)
    if text.lower().startswith(("nats://", "tls://")):
        return nats_servers(value)
    return url("amqp", "amqps", "redis", "rediss", "postgres", "postgresql")(value)


def nats_servers(value: object) -> str:
    """URLs separated by commas. A bare host and port becomes a NATS URL."""
    servers = [server.strip() for server in line(value).split(",")]
    return ",".join(url("nats", "tls")(server if "://" in server else f"nats://{server}") for server in servers)


def event_types(value: str) -> str:
    """A pattern that matches at least one event type."""
    from qw.core.event import select

    select([value], path="")
    return value


def orders(value: object) -> str:
    text = line(value)
    return text if "://" not in text else url("http", "https", "file")(text)


def database(value: object) -> str:
    """A URL or a libpq string ``host=… dbname=…``. Empty: libpq reads its own variables."""
    text = line(value)
    if text and not re.match(r"postgres(ql)?://|\s*\w+\s*=", text):
        raise Invalid("is not a PostgreSQL URL such as postgresql://user@host/database")
    return text


def address(value: object) -> str:
    text = line(value)
    if not re.fullmatch(r"[^@]+@[^@\s>]+>?", text):
        raise Invalid(f"{text[:60]!r} is not an e-mail address")
    return text


def path(value: object) -> Path:
    """A path. A relative path stays relative; ``~`` is expanded from the environment of this process."""
    try:
        return Path(value if isinstance(value, Path) else line(value)).expanduser()
    except RuntimeError:
        raise Invalid(f"{str(value)!r} starts with the home directory of an unknown user") from None
