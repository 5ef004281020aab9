"""A private, locked-down DuckDB for one task: it can read one dataset, but no other files and not the network."""

# ruff: noqa: S608 (names are quoted by `name` and `text`, values are parameters)

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qw.core.errors import guess
from qw.core.task.handler_api import Reject
from qw.handlers.data.files import FORMATS, find

if TYPE_CHECKING:
    import duckdb

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "1GB",
    "threads": "2",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
MAX_COLUMNS = 2000
MAX_HEADING = 1024 * 1024  # bytes of the first line of a CSV

_READERS = {"csv": "read_csv", "json": "read_json", "parquet": "read_parquet"}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """An open dataset: the view ``source`` of *connection*, with *columns* and their types.

    *scratch* is the only directory that the connection may write to.
    """

    connection: duckdb.DuckDBPyConnection
    columns: dict[str, str]
    directory: Path | None
    scratch: Path

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, list(values)).fetchall()

    def value(self, sql: str, values: Sequence[object] = ()) -> Any:
        """Return the first column of the first row."""
        return self.rows(sql, values)[0][0]


@contextmanager
def opened(dataset: str | None, directory: Path | None) -> Iterator[Dataset]:
    """Yield the dataset, ready for queries. Raise Reject if it is missing or unreadable, or without DuckDB."""
    try:
        import duckdb
    except ImportError:
        raise Reject("data_processing needs DuckDB: pip install 'qw[data]'") from None

    file = find(dataset, directory)
    if FORMATS[file.suffix] == "csv":
        _check_width(file)
    with tempfile.TemporaryDirectory(prefix="qw-data-") as scratch, duckdb.connect(config=_SETTINGS) as connection:
        _lock(connection, file, scratch)
        try:
            connection.execute(
                f"create view source as select * from {_READERS[FORMATS[file.suffix]]}({text(str(file))})"
            )
            columns = {row[0]: row[1] for row in connection.execute("describe source").fetchall()}
        except duckdb.Error as error:
            raise Reject(f"dataset: {dataset!r} cannot be read: {str(error).splitlines()[0]}") from error
        _refuse_more_than_most(len(columns))
        yield Dataset(connection=connection, columns=columns, directory=directory, scratch=Path(scratch))


def _check_width(file: Path) -> None:
    """Raise Reject for a CSV with too many columns. DuckDB would take minutes to detect their types."""
    with open(file, "rb") as opened_file:
        head = opened_file.readline(MAX_HEADING)
    if len(head) == MAX_HEADING and not head.endswith(b"\n"):
        raise Reject(f"dataset: its first line is longer than {MAX_HEADING:,} bytes")
    _refuse_more_than_most(1 + max(head.count(separator) for separator in (b",", b";", b"\t", b"|")))


def _refuse_more_than_most(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise Reject(f"dataset: it has {columns:,} columns; at most {MAX_COLUMNS:,} are read")


def _lock(connection: duckdb.DuckDBPyConnection, file: Path, scratch: str) -> None:
    connection.execute(f"set temp_directory = {text(scratch)}")
    connection.execute(f"set allowed_paths = [{text(str(file))}]")
    connection.execute(f"set allowed_directories = [{text(scratch)}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def text(value: str) -> str:
    """Return *value* as an SQL string literal, for places where SQL allows no parameter."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """Return *value* as a quoted SQL identifier."""
    return '"' + value.replace('"', '""') + '"'


def known(column: str, columns: dict[str, str] | Sequence[str]) -> str:
    """Return *column* as an SQL identifier. Raise Reject if it is not in *columns*."""
    if column not in columns:
        raise Reject(f"there is no column {column[:60]!r}; there are {', '.join(columns)}{guess(column, columns)}")
    return name(column)
