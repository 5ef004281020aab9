"""Every error qw raises on purpose.

QwError
├── NotFound        the thing named does not exist
├── Conflict        it exists, and its state forbids what was asked
├── Invalid         the input is wrong; lists every fault with its place
│   └── Misconfigured   the settings are wrong
├── Unavailable     the database, or a broker, cannot do this now; a later try may succeed
│   └── Unreachable     there is no contact with it
├── Denied          the database lets nobody in by that name, or not do that
│   └── LacksRight      its role lacks a right of qw's
├── TimedOut        the timeout of the caller expired
├── TaskFailed      the task whose result was asked for failed
└── TaskCancelled   it was cancelled

Each has a stable ``code``; the CLI maps it to an exit code and HTTP to a status, in one table each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from uuid import UUID


class QwError(Exception):
    code = "error"


class NotFound(QwError):
    code = "not_found"


class Conflict(QwError):
    """``holder`` is the task that stands in the way, where there is one."""

    code = "conflict"

    def __init__(self, message: str, *, holder: UUID | None = None) -> None:
        self.holder = holder
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing wrong with an input: ``path`` is where (``payload.items[3]``, ``f.yaml:9:14``), or empty."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Invalid(QwError):
    """The input is wrong. ``faults`` has every fault found, in the order of the input."""

    code = "invalid"

    def __init__(self, *faults: Fault | str) -> None:
        self.faults = tuple(Fault(path="", message=f) if isinstance(f, str) else f for f in faults)
        super().__init__("; ".join(map(str, self.faults)))


class Misconfigured(Invalid):
    code = "misconfigured"


class Unavailable(QwError):
    code = "unavailable"


class Unreachable(Unavailable):
    """No contact: the other side did not answer, or ended the connection."""


class Denied(QwError):
    """``remedy``: what would give the right, and who can do it, where that is not in the message."""

    code = "denied"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


class LacksRight(Denied):
    """*right* is what *role* needs for what was asked; None: no right is enough, only the owner may. *held*: it has."""

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
        """The same, named after the verb that was refused, and with the *right* that it takes as a whole."""
        missing = None if right in self.held else right
        return LacksRight(role=self.role, right=missing, held=self.held, reason=self.reason, verb=verb)


class TimedOut(QwError):
    code = "timed_out"


class TaskFailed(QwError):
    """``error`` is the text of the last attempt's error, ``attempts`` how many there were."""

    code = "task_failed"

    def __init__(self, *, id: UUID, type: str, error: str, attempts: int) -> None:
        self.id, self.type, self.error, self.attempts = id, type, error, attempts
        super().__init__(f"task {id} ({type}) failed after {attempts} attempt{'' if attempts == 1 else 's'}: {error}")


class TaskCancelled(QwError):
    """``reason`` is what whoever cancelled it said."""

    code = "task_cancelled"

    def __init__(self, *, id: UUID, type: str, reason: str) -> None:
        self.id, self.type, self.reason = id, type, reason
        super().__init__(f"task {id} ({type}) was cancelled: {reason}")


def guess(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when *word* looks like one of *known*, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def among(word: str, known: Iterable[str]) -> str:
    """The same, and what is known: ``; did you mean 'x'? Known are x, y`` or ``; known are x, y``."""
    names = ", ".join(known) or "none"
    hint = guess(word, names.split(", "))
    return f"{hint} Known are {names}" if hint else f"; known are {names}"
