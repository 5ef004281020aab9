"""Finds the name of this machine's time zone."""

from __future__ import annotations

import os
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qw.core.errors import Fault, Invalid
from qw.core.schedule.zones import zone

_FOLDER = "zoneinfo/"
_OTHER_TABLES = ("posix", "right")  # copies of the zones, without and with leap seconds


def local_zone(
    environ: Mapping[str, str] = os.environ, etc: Path = Path("/etc"), tables: Sequence[str] = zoneinfo.TZPATH
) -> tuple[str, str]:
    """Return the name of the zone and where it was found: TZ, *etc*/localtime or *etc*/timezone; otherwise UTC.

    A localtime that is a plain file is compared with the files in *tables*. Raise Invalid if TZ is not a zone name.
    """
    named = environ.get("TZ", "").lstrip(":")
    if named and named != str(etc / "localtime"):
        return zone_name(named, path="TZ"), "TZ"
    localtime, said = etc / "localtime", _said(etc / "timezone")
    if linked := _in_tables(os.path.realpath(localtime)):
        return linked, str(localtime)
    if (content := _bytes(localtime)) is not None:
        same = _same(content, [said] if said else [], tables) or _same(content, _all_names(tables), tables)
        if same:
            return same, f"{localtime}, by its content"
    return (said, str(etc / "timezone")) if said else ("UTC", "")


def zone_name(text: str, *, path: str) -> str:
    """Return the zone name in *text*, which may be a path below the tables. Raise Invalid that names *path*."""
    name = _in_tables(text) or text
    try:
        zone(name)
    except Invalid as error:
        hint = "; name the zone of the crontab with --timezone"
        raise Invalid(*(Fault(path=path, message=f"{fault.message}{hint}") for fault in error.faults)) from None
    return name


def _in_tables(path: str) -> str:
    """Return ``Europe/Berlin`` for the path of its table; empty for other paths."""
    _, folder, name = path.rpartition(_FOLDER)
    first, _, rest = name.partition("/")
    name = rest if first in _OTHER_TABLES else name
    return name if folder and _is_zone(name) else ""


def _said(path: Path) -> str:
    text = (_bytes(path) or b"").decode(errors="replace").strip()
    return text if _is_zone(text) else ""


def _is_zone(name: str) -> bool:
    try:
        zone(name)
    except Invalid:
        return False
    return True


def _same(content: bytes, names: Sequence[str], tables: Sequence[str]) -> str:
    return next((name for name in names for place in tables if _bytes(Path(place, name)) == content), "")


def _all_names(tables: Sequence[str]) -> list[str]:
    """Return the zone names in the tables; names of places, such as Europe/Berlin, come first."""
    names = {name for place in tables for name in _walk(Path(place))}
    return sorted(names, key=lambda name: ("/" not in name or name.startswith("Etc/"), name))


def _walk(place: Path) -> Iterator[str]:
    for folder, below, files in os.walk(place):
        below[:] = [name for name in below if name not in _OTHER_TABLES]
        yield from (str(Path(folder, name).relative_to(place)) for name in files if name != "localtime")


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
