"""Runs the queries of shell completion through libpq directly, because it must answer while a user types.

On a slow machine importing psycopg takes 250 ms of processor time; loading the libpq in its wheel and a query take 20.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from qw import sql

Names = Literal["tasks", "runs", "queues", "types", "workflows", "schedules", "workers"]

_SQL = sql.statements("completion")
_PARAMETER = re.compile(r"%\((\w+)\)s")
_TUPLES = 2  # PGRES_TUPLES_OK
# Set by a statement, because poolers refuse session options.
_BEGIN = b"begin read only; set local statement_timeout = '2s'"


def rows(url: str, name: Names, params: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the rows of a statement as text, null as empty text. Raise OSError without libpq or on failure."""
    statement = _SQL[name]
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    numbered = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", statement)
    pq = _load()
    connection = _connect(pq, url)
    try:
        pq.PQclear(pq.PQexec(connection, _BEGIN))
        return _rows(pq, connection, numbered, [params[name] for name in names])
    finally:
        pq.PQfinish(connection)


def _connect(pq: ctypes.CDLL, url: str) -> int:
    """Open a connection. Settings before *url* are defaults, which it overrides."""
    parameters = {"connect_timeout": "2", "application_name": "qw completion", "dbname": url, "client_encoding": "UTF8"}
    connection: int = pq.PQconnectdbParams(_texts([*parameters, None]), _texts([*parameters.values(), None]), 1)
    return connection


def _texts(values: Sequence[str | None]) -> ctypes.Array[c_char_p]:
    return (c_char_p * len(values))(*(None if value is None else value.encode() for value in values))


def _rows(pq: ctypes.CDLL, connection: int, statement: str, values: Sequence[str]) -> list[tuple[str, ...]]:
    result = pq.PQexecParams(connection, statement.encode(), len(values), None, _texts(values), None, None, 0)
    try:
        if pq.PQresultStatus(result) != _TUPLES:
            raise OSError(os.fsdecode(pq.PQerrorMessage(connection)))
        columns = range(pq.PQnfields(result))
        return [
            tuple(pq.PQgetvalue(result, row, column).decode() for column in columns)
            for row in range(pq.PQntuples(result))
        ]
    finally:
        pq.PQclear(result)


def _load() -> ctypes.CDLL:
    pq = ctypes.CDLL(_library())
    for name, result, arguments in (
        ("PQconnectdbParams", c_void_p, (POINTER(c_char_p), POINTER(c_char_p), c_int)),
        ("PQfinish", None, (c_void_p,)),
        ("PQerrorMessage", c_char_p, (c_void_p,)),
        ("PQexec", c_void_p, (c_void_p, c_char_p)),
        ("PQexecParams", c_void_p, (c_void_p, c_char_p, c_int, c_void_p, POINTER(c_char_p), c_void_p, c_void_p, c_int)),
        ("PQresultStatus", c_int, (c_void_p,)),
        ("PQntuples", c_int, (c_void_p,)),
        ("PQnfields", c_int, (c_void_p,)),
        ("PQgetvalue", c_char_p, (c_void_p, c_int, c_int)),
        ("PQclear", None, (c_void_p,)),
    ):
        function = getattr(pq, name)
        function.restype, function.argtypes = result, arguments
    return pq


def _library() -> str:
    """Load the libpq in psycopg's wheel, or else the system's."""
    spec = find_spec("psycopg_binary")
    if spec and spec.origin:
        package = Path(spec.origin).parent
        for folder in (package.with_name("psycopg_binary.libs"), package / ".dylibs"):
            if libraries := sorted(folder.glob("libpq[-.]*")):
                return str(libraries[0])
    from ctypes.util import find_library

    return find_library("pq") or "libpq.so.5"
