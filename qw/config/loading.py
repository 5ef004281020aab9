"""Loads settings from flags, the environment and ``qw.toml``, and shows them without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from qw.config.settings import Origin, Settings
from qw.config.values import Token, port
from qw.core.duration import format_duration
from qw.core.errors import Fault, Invalid, Misconfigured, guess

FILE = "qw.toml"

# all but the first are for commands
_NOT_SETTINGS = (
    "QW_CONFIG", "QW_TASK_ID", "QW_ATTEMPT", "QW_PAYLOAD", "QW_PAYLOAD_FILE", "QW_RESULT", "QW_OUTPUT",
    "QW_ARTIFACTS",
)  # fmt: skip
_KUBERNETES = re.compile(r"QW_SERVICE_(HOST|PORT)\w*|QW_PORT_\d+_(TCP|UDP)\w*")  # of a service named qw
_LIBPQ = ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGDATABASE")


class _Given(NamedTuple):
    """A raw value and its source, which error messages name. Relative paths are resolved against ``base``."""

    value: object
    origin: Origin
    place: str
    base: Path


@dataclass(frozen=True, kw_only=True)
class ShownSetting:
    """A setting as it may be shown to anyone. ``variable`` is the one to set it by; an empty ``value`` is none."""

    name: str
    variable: str
    value: str
    origin: Origin
    about: str


def load(environ: Mapping[str, str], flags: Mapping[str, object] | None = None, file: Path | None = None) -> Settings:
    """Return the settings from *flags* (by field name; None: not given), *environ*, the file and the defaults, in this
    order.

    The file is *file*, else ``QW_CONFIG``, else ``qw.toml`` in the current directory. Raise Misconfigured listing all
    errors.
    """
    faults: list[Fault] = []
    collected: dict[str, _Given] = {}
    for name, found in (
        *_from_flags(flags or {}),
        *_from_environment(environ, faults),
        *_from_file(file or _named_file(environ), faults),
    ):
        collected.setdefault(name, found)
    settings = _settle(collected, faults)
    if faults:
        raise Misconfigured(*faults)
    return settings


def shown(settings: Settings) -> Iterator[ShownSetting]:
    """Return all settings in the order of their declaration, without passwords and tokens."""
    for setting in _declared():
        yield ShownSetting(
            name=setting.name,
            variable=_variable(setting),
            value=_as_text(getattr(settings, setting.name), setting.metadata["secret"]),
            origin=settings.origins.get(setting.name, Origin.DEFAULT),
            about=setting.metadata["about"],
        )


def redacted(text: str) -> str:
    """Return *text* (a URL or a libpq ``key=value`` string) without its password and without parameters that look
    secret.
    """
    text = re.sub(r"(://[^:/?#\s]*):.*@", r"\1:***@", text)
    return re.sub(r"(?i)(\w*(?:pass|token|secret|key|sig)\w*\s*=\s*)('(?:[^'\\]|\\.)*'|[^&\s]+)", r"\1***", text)


def check_listening(settings: Settings) -> None:
    """Raise Misconfigured if the server would listen on a public address without tokens."""
    if not is_loopback(settings.host) and not settings.api_tokens:
        message = (
            f"listening on {settings.host} requires QW_API_TOKENS (name:role:secret); "
            "only loopback is open without tokens"
        )
        raise Misconfigured(Fault(path="QW_HOST", message=message))


def is_loopback(host: str) -> bool:
    """Whether *host* is reachable from this machine only."""
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_there(file: Path) -> bool:
    """Whether *file* exists. False if its directory is missing or not accessible."""
    try:
        return file.is_file()
    except OSError:
        return False


def _here() -> Path:
    """The current directory. If it was removed, relative paths remain relative."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


def _declared() -> list[Field[Any]]:
    return [field for field in fields(Settings) if field.metadata]


def _variable(setting: Field[Any]) -> str:
    return f"QW_{setting.name.upper()}"


def _variables(setting: Field[Any]) -> tuple[str, ...]:
    return (_variable(setting), *setting.metadata["also"])


def _from_flags(flags: Mapping[str, object]) -> Iterator[tuple[str, _Given]]:
    for name, value in flags.items():
        if value is not None and value != [] and value != ():
            yield name, _Given(value, Origin.FLAG, f"--{name.replace('_', '-')}", _here())


def _from_environment(environ: Mapping[str, str], faults: list[Fault]) -> Iterator[tuple[str, _Given]]:
    """Empty variables count as not set, because compose files pass unset variables as empty ones."""
    for setting in _declared():
        for variable in _variables(setting):
            text = _variable_text(variable, environ, setting.metadata["secret"], faults)
            if text is not None:
                yield setting.name, _Given(text, Origin.ENVIRONMENT, variable, _here())
    if database := _database_of_parts(environ, faults):
        yield "database_url", database
    for name, scheme, prefix, ending in (
        ("rabbitmq_url", "amqp", "RABBITMQ", ("VHOST", "/")),
        ("redis_url", "redis", "REDIS", ("DB", "0")),
    ):
        if environ.get(f"{prefix}_HOST"):
            yield name, _broker_of_parts(environ, scheme, prefix, ending, faults)
    faults += _unknown_variables(environ)


def _variable_text(variable: str, environ: Mapping[str, str], secret: bool, faults: list[Fault]) -> str | None:
    text = environ.get(variable, "").strip()
    path = environ.get(f"{variable}_FILE", "").strip() if secret else ""
    if not path:
        return text or None
    if text:
        faults.append(Fault(path=variable, message=f"is set, and so is {variable}_FILE; set only one of them"))
    try:
        return Path(path).read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(path=f"{variable}_FILE", message=f"cannot read {path}: {_reason(error)}"))
    return None


def _database_of_parts(environ: Mapping[str, str], faults: list[Fault]) -> _Given | None:
    """The database URL from ``DB_HOST``, ``DB_NAME`` and so on. Empty if libpq's own variables are set."""
    host, name = environ.get("DB_HOST", ""), environ.get("DB_NAME", "")
    if host or name:
        password = _variable_text("DB_PASSWORD", environ, True, faults) or ""
        try:
            url = _database_url(host, environ.get("DB_PORT", ""), name, environ.get("DB_USERNAME", ""), password)
        except Invalid as error:
            faults.append(Fault(path="DB_PORT", message=str(error)))
            return None
        return _Given(url, Origin.ENVIRONMENT, "DB_HOST" if host else "DB_NAME", _here())
    for variable in _LIBPQ:
        if environ.get(variable):
            return _Given("", Origin.ENVIRONMENT, variable, _here())
    return None


def _database_url(host: str, port_text: str, name: str, user: str, password: str) -> str:
    place = f"[{host}]" if ":" in host else quote(host or "localhost", safe="")
    number = f":{port(port_text)}" if port_text else ""
    secret = f":{quote(password, safe='')}" if password else ""
    login = f"{quote(user, safe='')}{secret}@" if user else ""
    query = "" if user or not password else f"?password={quote(password, safe='')}"
    return f"postgresql://{login}{place}{number}/{quote(name, safe='')}{query}"


def _broker_of_parts(
    environ: Mapping[str, str], scheme: str, prefix: str, ending: tuple[str, str], faults: list[Fault]
) -> _Given:
    """The broker URL from ``<prefix>_HOST _PORT _USERNAME _PASSWORD`` and its path (a vhost or a database number)."""
    part = {name: environ.get(f"{prefix}_{name}", "").strip() for name in ("HOST", "PORT", "USERNAME", "USER")}
    password = _variable_text(f"{prefix}_PASSWORD", environ, True, faults) or ""
    place = f"[{part['HOST']}]" if ":" in part["HOST"] else quote(part["HOST"], safe="")
    if part["PORT"]:
        try:
            place += f":{port(part['PORT'].rpartition(':')[2])}"  # Kubernetes sets tcp://address:port
        except Invalid as error:
            faults.append(Fault(path=f"{prefix}_PORT", message=str(error)))
    user = quote(part["USERNAME"] or part["USER"], safe="")
    secret = f":{quote(password, safe='')}" if password else ""
    login = f"{user}{secret}@" if user or secret else ""
    last = environ.get(f"{prefix}_{ending[0]}", "").strip() or ending[1]
    path = "" if last == "/" else quote(last.removeprefix("/"), safe="")
    return _Given(f"{scheme}://{login}{place}/{path}", Origin.ENVIRONMENT, f"{prefix}_HOST", _here())


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Fault]:
    known = {*_NOT_SETTINGS}
    for setting in _declared():
        known.update(_variables(setting))
        if setting.metadata["secret"]:
            known.update(f"{variable}_FILE" for variable in _variables(setting))
    for variable in sorted(environ):
        is_ours = variable.startswith("QW_") and not variable.startswith("QW_TEST_")
        if is_ours and variable not in known and not _KUBERNETES.fullmatch(variable):
            yield Fault(path=variable, message=f"is not a setting{guess(variable, known)}")


def _named_file(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get("QW_CONFIG"):
        return Path(named)
    file = Path(FILE)
    return file if _is_there(file) else None


def _from_file(file: Path | None, faults: list[Fault]) -> Iterator[tuple[str, _Given]]:
    if file is None:
        return
    lines = _read_file(file, faults)
    for setting in _declared():
        for key in _keys(setting):
            if key in lines:
                yield setting.name, _Given(lines[key], Origin.FILE, f"{file.name}: {key}", file.absolute().parent)
    known = [key for setting in _declared() for key in _keys(setting)]
    for key in lines:
        if key not in known:
            faults.append(Fault(path=f"{file.name}: {key}", message=f"is not a setting{guess(key, known)}"))


def _keys(setting: Field[Any]) -> list[str]:
    return [variable[3:].lower() for variable in _variables(setting) if variable.startswith("QW_")]


def _read_file(file: Path, faults: list[Fault]) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "; --config names a settings file" if isinstance(error, FileNotFoundError) else ""
        faults.append(Fault(path=str(file), message=f"cannot be read: {_reason(error)}{hint}"))
    return {}


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _settle(given: Mapping[str, _Given], faults: list[Fault]) -> Settings:
    values: dict[str, Any] = {}
    for setting in _declared():
        if found := given.get(setting.name):
            try:
                value = setting.metadata["read"](found.value)
            except Invalid as error:
                faults.append(Fault(path=found.place, message=str(error)))
                continue
            values[setting.name] = found.base / value if isinstance(value, Path) else value
    if "home" in values:
        values.setdefault("output_dir", values["home"] / "output")
        values.setdefault("artifacts_dir", values["home"] / "artifacts")
    settings = Settings(**values, origins={name: found.origin for name, found in given.items()})
    if settings.lease < 2 * settings.heartbeat:
        message = (
            f"{format_duration(settings.lease)} is too short: "
            f"it must be at least two heartbeats of {format_duration(settings.heartbeat)}"
        )
        faults.append(Fault(path="lease", message=message))
    return settings


def _as_text(value: object, secret: bool) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case timedelta():
            return format_duration(value)
        case tuple():
            return ", ".join(_as_text(item, secret) for item in value)
        case Token():
            return f"{value.name}:{value.role}:***"
    return redacted(str(value)) if secret else str(value)
