"""The folders in which the steps of runs share files; they are deleted after their runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from qw.services.execution.context import ConnectionSource
from qw.store import runs
from qw.store.connection import Connection

_BATCH = 1000


class ArtifactFolders:
    """Folders below *root*, one per database and in it one per run: ``root/DATABASE-CREATED/RUN``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._home: Path | None = None

    async def folder(self, pool: ConnectionSource, run_id: UUID) -> Path:
        """Return the folder of a run; create it if needed."""
        if self._home is None:
            async with pool.connection() as conn:
                await self._of_database(conn)
        assert self._home is not None
        folder = self._home / str(run_id)
        await asyncio.to_thread(_make, self._root, folder)
        return folder

    async def prune(self, conn: Connection) -> int:
        """Delete the folders of runs that no longer exist. Return their number."""
        home, count = await self._of_database(conn), 0
        run_ids = await asyncio.to_thread(_runs, home)
        for start in range(0, len(run_ids), _BATCH):
            ids = run_ids[start : start + _BATCH]
            gone = set(ids) - await runs.existing(conn, ids)
            await asyncio.to_thread(_remove, [home / str(id) for id in gone])
            count += len(gone)
        return count

    async def _of_database(self, conn: Connection) -> Path:
        if self._home is None:
            name, made = await runs.home(conn)
            self._home = self._root / f"{quote(name, safe='')}-{made}"
        return self._home


def _make(root: Path, folder: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)


def _runs(home: Path) -> list[UUID]:
    return list(_ids(home)) if home.is_dir() else []


def _ids(home: Path) -> Iterator[UUID]:
    for folder in home.iterdir():
        try:
            yield UUID(folder.name)
        except ValueError:  # not a folder of a run
            continue


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
