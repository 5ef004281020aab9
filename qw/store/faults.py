"""Maps the SQLSTATE of PostgreSQL errors to causes: one table for all code that decides by the cause."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import psycopg


class Cause(StrEnum):
    """``CONTACT``: there is no connection; the statement may have been committed.

    ``PASSING``: a temporary condition of the server; the same statement may succeed later. ``DATA``: the values are at
    fault; a retry cannot succeed. ``SETUP``: rights, schema or configuration; it succeeds after somebody changes them.
    """

    CONTACT = "contact"
    PASSING = "passing"
    DATA = "data"
    SETUP = "setup"


_CLASSES: Mapping[str, Cause] = {
    "08": Cause.CONTACT,  # connection exceptions
    "21": Cause.DATA,  # cardinality violations
    "22": Cause.DATA,  # data exceptions
    "23": Cause.DATA,  # constraints
    "25": Cause.PASSING,  # transaction state: read-only, in a failed transaction
    "26": Cause.PASSING,  # a prepared statement that exists in another session of a pooler
    "2D": Cause.PASSING,  # invalid transaction termination
    "40": Cause.PASSING,  # serialization failures, deadlocks
    "44": Cause.DATA,  # with check option
    "53": Cause.PASSING,  # out of memory, disk or connections
    "54": Cause.DATA,  # program limits: too many columns, too deep nesting
    "55": Cause.PASSING,  # object in use, lock not available
    "57": Cause.PASSING,  # timeouts, cancellations by an operator
    "58": Cause.PASSING,  # I/O errors
    "72": Cause.PASSING,  # snapshot too old
    "P0": Cause.DATA,  # raised by a trigger or function
    "QW": Cause.DATA,  # raised by qw's own functions
    "XX": Cause.PASSING,  # internal: mostly a concurrent change of the schema
}

_STATES: Mapping[str, Cause] = {
    "0A000": Cause.PASSING,  # "cached plan must not change result type": a prepared statement outlived a migration
    "25P03": Cause.CONTACT,  # idle in transaction for too long: the server closed the session
    "42P05": Cause.PASSING,  # a pooler's session has that prepared statement already
    "57P01": Cause.CONTACT,  # shutdown
    "57P02": Cause.CONTACT,
    "57P03": Cause.CONTACT,  # starting up
    "57P04": Cause.CONTACT,  # the database was dropped
    "57P05": Cause.CONTACT,  # idle for too long
}


def cause_of(error: psycopg.Error) -> Cause:
    """Return the cause of *error*, raised by the server or by psycopg."""
    if not error.sqlstate:
        is_contact = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return Cause.CONTACT if is_contact else Cause.DATA  # otherwise a value that cannot be sent
    return _STATES.get(error.sqlstate) or _CLASSES.get(error.sqlstate[:2], Cause.SETUP)
