"""What the completion of the shell asks the database, through libpq itself: it answers while somebody types.

On a slow machine importing psycopg takes 250 ms of processor time; loading the libpq in its wheel and asking takes 20.
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
_OPTIONS = "-c statement_timeout=2000 -c client_encoding=UTF8 -c application_name=qw-completion"


def rows(url: str, name: Names, params: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The rows of a statement as text, null as the empty text. Raise OSError where there is no libpq, or no answer."""
    statement = _SQL[name]
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
    os.environ.setdefault("PGCONNECT_TIMEOUT", "2")
    os.environ["PGOPTIONS"] = f"{os.environ.get('PGOPTIONS', '')} {_OPTIONS}".strip()
    pq = _load()
    connection = pq.PQconnectdb(url.encode())
    try:
        return _rows(pq, connection, numbered, [params[name] for name in names])
    finally:
        pq.PQfinish(connection)


def _rows(pq: ctypes.CDLL, connection: int, statement: str, values: Sequence[str]) -> list[tuple[str, ...]]:
    texts = (c_char_p * len(values))(*(value.encode() for value in values))
    result = pq.PQexecParams(connection, statement.encode(), len(values), None, texts, None, None, 0)
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
        ("PQconnectdb", c_void_p, (c_char_p,)),
        ("PQfinish", None, (c_void_p,)),
        ("PQerrorMessage", c_char_p, (c_void_p,)),
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
    """The libpq in psycopg's wheel, else that of the system."""
    spec = find_spec("psycopg_binary")
    if spec and spec.origin:
        package = Path(spec.origin).parent
        for folder in (package.with_name("psycopg_binary.libs"), package / ".dylibs"):
            if found := sorted(folder.glob("libpq[-.]*")):
                return str(found[0])
    from ctypes.util import find_library

    return find_library("pq") or "libpq.so.5"
