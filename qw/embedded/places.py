"""Where a private cluster is stored, and who can access it.

PostgreSQL does not run as root, so root's server runs as another user such as ``postgres``, which other programs may
use too. Root's daemon would execute whatever these programs wrote into the database. So the server gets its own group,
and its files are in a directory of root that only this group can enter: other processes of that user reach neither
files nor socket, and cannot trace the server, because Linux compares groups as well.
"""

from __future__ import annotations

import grp
import os
import pwd
from hashlib import sha256
from pathlib import Path

from qw.core.errors import Misconfigured
from qw.embedded.programs import Owner

_GROUPS = range(60578, 61184)  # numbers that no distribution gives away
_BELOW = "postgresql"  # where home has other things in it
_OURS = ("pg", "output", _BELOW)
_PREFIXES = ("pg.", "pgsql")


def place(home: Path) -> Path:
    """The directory for the cluster, log and lock of *home*: *home* itself, or a separate one if root's server needs
    it.

    It is separate if *home* contains other files, or if only root can reach it.
    """
    home = home.absolute()
    if os.geteuid() != 0:
        return home
    if not all(_may_enter(parent) for parent in home.parents):
        return Path("/var/lib") / f"qw-{_digest(home)}"
    below = home / _BELOW
    if (home / "pg.lock").exists() or (not (below / "pg.lock").exists() and _is_ours(home)):
        return home
    return below if _may_enter(home) else Path("/var/lib") / f"qw-{_digest(home)}"


def fence_in(directory: Path, owner: Owner) -> Owner:
    """Restrict root's *directory* to the server. Return *owner* with the group that can enter."""
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise Misconfigured(f"{directory} belongs to another user, who could change what is in it; set QW_HOME")
    group: int = status.st_gid if status.st_gid in _GROUPS else _free_group(directory)
    os.chown(directory, -1, group)
    directory.chmod(0o710)
    return owner._replace(gid=group)


def _may_enter(directory: Path) -> bool:
    """Whether every user can enter it. True also if it does not exist yet."""
    try:
        return bool(directory.stat().st_mode & 0o001)
    except FileNotFoundError:
        return True


def _is_ours(home: Path) -> bool:
    """Whether *home* contains only files of qw."""
    try:
        return all(entry.name in _OURS or entry.name.startswith(_PREFIXES) for entry in home.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return True


def _free_group(directory: Path) -> int:
    """An unused group id, usually a different one for each directory."""
    first = int(_digest(directory), 16) % len(_GROUPS)
    taken = {entry.gr_gid for entry in grp.getgrall()} | {entry.pw_gid for entry in pwd.getpwall()}
    free: int = next(group for group in (*_GROUPS[first:], *_GROUPS[:first]) if group not in taken)
    return free


def _digest(path: Path) -> str:
    return sha256(os.fsencode(path)).hexdigest()[:16]
