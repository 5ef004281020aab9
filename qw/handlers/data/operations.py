"""The operations on an open dataset. Names from the payload are checked and quoted, values are parameters."""

# ruff: noqa: S608 (names are quoted by `name` and `text`, values are parameters)

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qw.core.task.handler_api import Reject
from qw.core.task.payload import Json, JsonObject, clean
from qw.handlers.data.engine import Dataset, known, name, text
from qw.handlers.data.expressions import translate
from qw.handlers.data.files import output
from qw.handlers.data.payload import ColumnRule, DataPayload, Metric, RowFilter

MAX_ROWS = 1000
MAX_BYTES = 200 * 1024  # bytes of the rows in a result, as JSON

_EXAMPLES = 5
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # prefixes of what spreadsheets evaluate
_SQL_TYPES = {"integer": "double", "number": "double", "text": "varchar"}
_COPY = {"csv": "format csv, header true", "json": "format json, array true", "parquet": "format parquet"}
_SEARCH = {"contains": "contains", "starts_with": "starts_with", "ends_with": "ends_with"}


@dataclass(frozen=True, kw_only=True)
class Query:
    """A select, the values of its parameters, and the names of its columns."""

    sql: str
    columns: list[str]
    values: list[object] = field(default_factory=list)


def transform(source: Dataset, payload: DataPayload) -> JsonObject:
    return _table(source, _transformed(source, payload))


def aggregate(source: Dataset, payload: DataPayload) -> JsonObject:
    return _table(source, _aggregated(source, payload))


def convert(source: Dataset, payload: DataPayload) -> JsonObject:
    """Write the transformed rows to a file and rename it when it is complete. All attempts use the same file name."""
    if payload.format is None:
        raise Reject("format: convert needs one of csv, json and parquet")
    file = output(payload.output or f"{str(payload.dataset).replace('/', '-')}.{payload.format}", source.directory)
    written = source.scratch / "written"
    _materialize(source, _transformed(source, payload))
    rows = _for_spreadsheets(source) if payload.format == "csv" else "answer"
    source.rows(f"copy {rows} to {text(str(written))} ({_COPY[payload.format]})")
    _put(written, file)
    count = source.value("select count(*) from answer")
    return {"file": f"{file.parent.name}/{file.name}", "rows": count, "bytes": file.stat().st_size}


def _for_spreadsheets(source: Dataset) -> str:
    """Return a query that prefixes ``'`` to texts that a spreadsheet would evaluate as formulas.

    Text that is a number, such as -5, is unchanged.
    """
    columns, quote = [], text("'")
    for title, type in source.rows("select column_name, column_type from (describe answer)"):
        column, safe = name(title), name(f"'{title}" if title.startswith(_FORMULA) else title)
        if type == "VARCHAR":
            is_formula = f"regexp_matches({column}, '^[=+@\\t\\r-]') and try_cast({column} as double) is null"
            columns.append(f"case when {is_formula} then {quote} || {column} else {column} end as {safe}")
        else:
            columns.append(f"{column} as {safe}")
    return f"(select {', '.join(columns)} from answer)"


def profile(source: Dataset) -> JsonObject:
    summary = source.connection.execute("select * from (summarize source)")
    titles = [column[0] for column in summary.description or []]
    columns: list[Json] = [clean(dict(zip(titles, row, strict=True))) for row in summary.fetchall()]
    return {"rows": source.value("select count(*) from source"), "columns": columns}


def validate(source: Dataset, payload: DataPayload) -> JsonObject:
    """Return a report: how many rows break each rule, with the first few values that do."""
    if not payload.rules:
        raise Reject("rules: validate needs at least one")
    faults: list[Json] = []
    for rule in payload.rules:
        column = known(rule.column, source.columns)
        for kind, condition, values in _breaches(rule, column):
            if count := source.value(f"select count(*) from source where {condition}", values):
                sample = f"select distinct {column} from source where {condition} order by 1 limit {_EXAMPLES}"
                examples = clean([row[0] for row in source.rows(sample, values)])
                faults.append({"column": rule.column, "rule": kind, "count": count, "examples": examples})
    return {"rows": source.value("select count(*) from source"), "valid": not faults, "faults": faults}


def _breaches(rule: ColumnRule, column: str) -> list[tuple[str, str, list[object]]]:
    """Return, for each check of *rule*, its name, the condition of rows that break it, and that condition's values."""
    breaches: list[tuple[str, str, list[object]]] = []
    if rule.required:
        breaches.append(("required", f"{column} is null or trim({column}::varchar) = ''", []))
    if rule.unique:
        twice = f"select {column} from source where {column} is not null group by 1 having count(*) > 1"
        breaches.append(("unique", f"{column} in ({twice})", []))
    if rule.type:
        breaches.append(("type", f"{column} is not null and {_is_no(rule.type, column)}", []))
    for kind, bound, sign in (("min", rule.min, "<"), ("max", rule.max, ">")):
        if bound is not None:
            as_type = "varchar" if isinstance(bound, str) else "double"
            breaches.append((kind, f"try_cast({column} as {as_type}) {sign} ?", [bound]))
    if rule.regex is not None:
        breaches.append(("regex", f"not regexp_full_match({column}::varchar, ?)", [rule.regex]))
    return breaches


def _is_no(type: str, column: str) -> str:
    cast = f"try_cast({column}::varchar as {_SQL_TYPES.get(type, type)})"
    broken = f"{cast} <> floor({cast})" if type == "integer" else "false"  # a cast to bigint would round
    return f"({cast} is null or {broken})"


def _transformed(source: Dataset, payload: DataPayload) -> Query:
    kept = _kept(source, payload)
    selected = payload.select or kept.columns
    for column in (*selected, *payload.rename):
        known(column, kept.columns)
    titles = [payload.rename.get(column, column) for column in selected]
    if len(set(titles)) < len(titles):
        raise Reject("rename: two columns get the same name")
    picked = ", ".join(f"{name(column)} as {name(title)}" for column, title in zip(selected, titles, strict=True))
    order = _order(payload, [*titles, *kept.columns])
    return Query(sql=f"select {picked} from ({kept.sql}) as kept{order}", columns=titles, values=kept.values)


def _aggregated(source: Dataset, payload: DataPayload) -> Query:
    kept = _kept(source, payload)
    groups = [known(column, kept.columns) for column in payload.group_by]
    metrics = payload.metrics or [Metric(name="count", function="count")]
    titles = [*payload.group_by, *(metric.name for metric in metrics)]
    if len(set(titles)) < len(titles):
        raise Reject("metrics: two columns get the same name")
    measured = []
    for metric in metrics:
        column = known(metric.column, kept.columns) if metric.column else "*"
        call = f"count(distinct {column})" if metric.function == "count_distinct" else f"{metric.function}({column})"
        measured.append(f"{call} as {name(metric.name)}")
    by = f" group by {', '.join(groups)}" if groups else ""
    order = _order(payload, titles) or (f" order by {', '.join(groups)}" if groups else "")
    sql = f"select {', '.join([*groups, *measured])} from ({kept.sql}) as kept{by}{order}"
    return Query(sql=sql, columns=titles, values=kept.values)


def _kept(source: Dataset, payload: DataPayload) -> Query:
    """Return a query for the rows with the derived columns that satisfy `where`."""
    columns, derived, values = list(source.columns), ["*"], list[object]()
    for title, expression in payload.derive.items():
        if title in columns:
            raise Reject(f"derive: there is a column {title!r} already")
        sql, constants = translate(expression, list(source.columns))
        derived.append(f"{sql} as {name(title)}")
        values += constants
        columns.append(title)
    conditions = []
    for condition in payload.where:
        sql, compared = _condition(condition, known(condition.column, columns))
        conditions.append(sql)
        values += compared
    where = f" where {' and '.join(conditions)}" if conditions else ""
    sql = f"select * from (select {', '.join(derived)} from source) as derived{where}"
    return Query(sql=sql, columns=columns, values=values)


def _condition(condition: RowFilter, column: str) -> tuple[str, Sequence[object]]:
    if condition.op == "is_null":
        return f"{column} is null", ()
    if condition.op == "not_null":
        return f"{column} is not null", ()
    if condition.op in _SEARCH:
        return f"{_SEARCH[condition.op]}({column}::varchar, ?::varchar)", (condition.value,)
    if isinstance(condition.value, list):
        marks = ", ".join("?" for _ in condition.value)
        inside = f"{column} in ({marks})" if marks else "false"
        return (f"not ({inside})" if condition.op == "not_in" else inside), condition.value
    return f"{column} {condition.op} ?", (condition.value,)


def _order(payload: DataPayload, columns: Sequence[str]) -> str:
    terms = []
    for column in payload.sort:
        descending = column.startswith("-")
        terms.append(known(column.removeprefix("-"), columns) + (" desc" if descending else ""))
    order = f" order by {', '.join(terms)}" if terms else ""
    return f"{order} limit {payload.limit}" if payload.limit is not None else order


def _materialize(source: Dataset, query: Query) -> None:
    """Store the rows of *query* in the table ``answer``. Raise Reject if DuckDB rejects it, a fault of the payload."""
    import duckdb

    try:
        source.rows(f"create temp table answer as {query.sql}", query.values)
    except (duckdb.ProgrammingError, duckdb.DataError) as error:
        raise Reject(f"the query cannot be run: {str(error).splitlines()[0]}") from error


def _table(source: Dataset, query: Query) -> JsonObject:
    """Return the rows of *query*, ``data`` cut at MAX_ROWS and MAX_BYTES; ``rows`` is the total number."""
    _materialize(source, query)
    total = source.value("select count(*) from answer")
    data: list[Json] = []
    room = MAX_BYTES
    for row in source.rows(f"select * from answer limit {MAX_ROWS}"):
        record = clean(dict(zip(query.columns, row, strict=True)))
        room -= len(json.dumps(record, ensure_ascii=False).encode()) + 1
        if room < 0:
            break
        data.append(record)
    result: JsonObject = {"rows": total, "columns": list[Any](query.columns), "data": data}
    if len(data) == total:
        return result
    why = f"{len(data):,} of {total:,} rows fit into a result; write all to a file (convert), or select fewer"
    return {**result, "truncated": True, "cut": {"data": why}}


def _put(written: Path, file: Path) -> None:
    """Copy, as the scratch directory may be on another disk, then rename, so that readers never see a partial file."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", suffix=".part", delete=False) as partial:
        shutil.copyfile(written, partial.name)
        os.chmod(partial.name, 0o644)
        os.replace(partial.name, file)
