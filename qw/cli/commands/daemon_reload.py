"""``qw daemon --reload``: a parent process that restarts the daemon when a source file changes. For development."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qw.cli.commands.daemon_processes import before_exec
from qw.core.errors import Misconfigured

if TYPE_CHECKING:
    from qw.config import Settings

log = logging.getLogger(__name__)

GRACE = 2.0  # seconds before running handlers are interrupted; their tasks run again
KILL = 10.0  # seconds after that
EXTENSIONS = (".yaml", ".yml", ".toml")


def keep_reloading(words: list[str], settings: Settings) -> int:
    """Run a daemon with the command line *words* and restart it after each file change. Return the exit code.

    Raise Misconfigured if watchfiles is not installed.
    """
    from qw.daemon.logs import set_up

    try:
        import watchfiles
    except ImportError:
        raise Misconfigured("--reload needs watchfiles; install it: pip install 'qw[reload]'") from None
    set_up(settings)
    return asyncio.run(_Reloader([sys.executable, "-m", "qw", *words], watchfiles).run(Path.cwd()))


class _Reloader:
    def __init__(self, command: Sequence[str], watchfiles: Any) -> None:
        self._command = command
        self._watchfiles = watchfiles
        self._stopping = asyncio.Event()

    async def run(self, folder: Path) -> int:
        """Run until a signal arrives. A daemon that exits by itself is restarted only at the next file change."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        changes = self._watchfiles.awatch(
            folder, watch_filter=self._watchfiles.PythonFilter(extra_extensions=EXTENSIONS), stop_event=self._stopping
        )
        child = await self._start()
        async for changed in changes:
            names = sorted({str(Path(path).relative_to(folder)) for _, path in changed})
            log.info("files changed; the daemon is started again", extra={"files": ", ".join(names[:5])})
            await _end(child)
            child = await self._start()
        return await _end(child)

    async def _start(self) -> asyncio.subprocess.Process:
        # in its own session, so that ^C reaches only the parent, which passes it on once
        return await asyncio.create_subprocess_exec(*self._command, start_new_session=True, preexec_fn=before_exec)


async def _end(child: asyncio.subprocess.Process) -> int:
    """Drain *child*, with short timeouts before it is interrupted and killed. Return its exit code; 0 if a signal
    ended it.
    """
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGTERM, KILL), (signal.SIGKILL, KILL)):
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)
        with contextlib.suppress(TimeoutError):
            return max(0, await asyncio.wait_for(asyncio.shield(child.wait()), seconds))
    return 1
