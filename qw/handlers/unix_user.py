"""The system user that a command runs as, if it is not the daemon's own."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from qw.core.errors import guess
from qw.core.task.handler_api import Reject


@dataclass(frozen=True, kw_only=True)
class UnixUser:
    name: str
    uid: int
    gid: int
    home: str
    shell: str

    @property
    def env(self) -> dict[str, str]:
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}

    def own(self, folder: Path) -> None:
        """Change the owner of *folder* and everything in it to the user."""
        for directory, _, files in os.walk(folder):
            for path in (directory, *(os.path.join(directory, file) for file in files)):
                os.chown(path, self.uid, self.gid, follow_symlinks=False)


def unix_user(name: str | None) -> UnixUser | None:
    """Return the user *name*, None for the daemon's own. Raise Reject if this daemon cannot run commands as it."""
    if name is None:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        hint = guess(name[:60], [user.pw_name for user in pwd.getpwall()])
        raise Reject(f"user: there is no user {name[:60]!r} here{hint}") from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise Reject(f"user: this daemon runs as {_own_name()}; only one that runs as root runs commands as {name}")
    return UnixUser(
        name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir, shell=entry.pw_shell or "/bin/sh"
    )


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
