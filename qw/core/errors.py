"""The exceptions of qw. All derive from QwError.

QwError
├── NotFound        the named object does not exist
├── Conflict        the state of the object does not allow the operation
├── Invalid         the input is invalid; lists every fault with its path
│   └── Misconfigured   a setting is invalid
├── Unavailable     the database or the broker cannot do this now; a later try may succeed
│   └── Unreachable     no connection to it
├── Denied          the database refused the login or the operation
│   └── LacksRight      the role lacks a qw right
├── TimedOut        the caller's timeout expired
├── TaskFailed      the task whose result was requested failed
└── TaskCancelled   the task whose result was requested was cancelled

Each has a stable ``code``; the CLI maps it to an exit code and HTTP to a status, in one table each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from uuid import UUID


class QwError(Exception):
    """Base class. ``code`` is a stable, machine-readable name of the error class."""

    code = "error"


class NotFound(QwError):
    """The named object does not exist."""

    code = "not_found"


class Conflict(QwError):
    """The state of an object does not allow the operation. ``holder``: id of the task that holds the key, if any."""

    code = "conflict"

    def __init__(self, message: str, *, holder: UUID | None = None) -> None:
        self.holder = holder
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of an input. ``path``: where it is (``payload.items[3]``, ``f.yaml:9:14``), or empty."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Invalid(QwError):
    """The input is invalid. ``faults``: all faults found, in input order."""

    code = "invalid"

    def __init__(self, *faults: Fault | str) -> None:
        self.faults = tuple(Fault(path="", message=f) if isinstance(f, str) else f for f in faults)
        super().__init__("; ".join(map(str, self.faults)))


class Misconfigured(Invalid):
    """A setting is invalid, or the environment lacks what the setting requires."""

    code = "misconfigured"


class Unavailable(QwError):
    """The database or the broker cannot do this now; a later try may succeed."""

    code = "unavailable"


class Unreachable(Unavailable):
    """No connection to the database or the broker: it did not answer, or closed the connection."""


class Denied(QwError):
    """The database refused the login or the operation. ``remedy``: how to get access, if not in the message."""

    code = "denied"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


class LacksRight(Denied):
    """*role* lacks *right*; None: only the schema owner may do this. *held*: the rights that the role has."""

    def __init__(
        self, *, role: str, right: str | None, held: Collection[str] = (), reason: str = "", verb: str = ""
    ) -> None:
        self.role, self.right, self.held, self.reason = role, right, held, reason
        purpose = f" (needed for {verb})" if verb else ""
        if right is None:
            message = f"role {role} may not do this{purpose}, only the owner of schema qw may: {reason}"
        else:
            remedy = f"the owner grants it with: qw db grant {role} {right}"
            message = f"role {role} lacks the right {str(right)!r}{purpose}; {remedy}"
        super().__init__(message)

    def needed_for(self, verb: str, right: str | None) -> LacksRight:
        """Return a copy that names the refused *verb* and the *right* that the whole verb needs."""
        missing = None if right in self.held else right
        return LacksRight(role=self.role, right=missing, held=self.held, reason=self.reason, verb=verb)


class TimedOut(QwError):
    """The caller's timeout expired before the awaited state was reached."""

    code = "timed_out"


class TaskFailed(QwError):
    """The awaited task failed. ``id``, ``type``; ``error``: text of the last error; ``attempts``: their number."""

    code = "task_failed"

    def __init__(self, *, id: UUID, type: str, error: str, attempts: int) -> None:
        self.id, self.type, self.error, self.attempts = id, type, error, attempts
        super().__init__(f"task {id} ({type}) failed after {attempts} attempt{'' if attempts == 1 else 's'}: {error}")


class TaskCancelled(QwError):
    """The awaited task was cancelled. ``id``, ``type``; ``reason``: as given by the canceller."""

    code = "task_cancelled"

    def __init__(self, *, id: UUID, type: str, reason: str) -> None:
        self.id, self.type, self.reason = id, type, reason
        super().__init__(f"task {id} ({type}) was cancelled: {reason}")


def guess(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` if *word* is similar to one of *known*, else an empty string."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {str(close[0])!r}?" if close else ""


def among(word: str, known: Iterable[str]) -> str:
    """Like `guess`, followed by the known words: ``; did you mean 'x'? Known are x, y`` or ``; known are x, y``."""
    words = list(known)
    hint, names = guess(word, words), ", ".join(words) or "none"
    return f"{hint} Known are {names}" if hint else f"; known are {names}"
