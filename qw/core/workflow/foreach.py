"""The items of ``foreach:`` and ``matrix:``, and how they are parsed from a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, product

from qw.core.errors import Fault, guess
from qw.core.expression import ExpressionError, Scope, Template
from qw.core.expression.evaluation import equal, kind
from qw.core.fields import FLAG, Field, as_is, integer
from qw.core.parsing import below
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.task_template import template

MAX_ITEMS = 10_000
MAX_ENTRIES = 500  # each for include and exclude, whose entries are compared with every combination
AT_ONCE = 500  # the most items started by one pass, to keep each pass short


@dataclass(frozen=True, kw_only=True)
class Items:
    """``source`` renders to a list, or for a matrix to an object of lists. ``max_parallel``: most items at a time.

    ``fail_fast``: no item starts after one failed.
    """

    source: Template
    is_matrix: bool = False
    max_parallel: int = MAX_ITEMS
    fail_fast: bool = True

    def values(self, scope: Scope) -> list[Json]:
        """Return the items in order. Those of a matrix are objects; the last name of the alphabet varies fastest.

        Raise ExpressionError.
        """
        value = self.source.render(scope)
        values = _combinations(value) if self.is_matrix else value
        if not isinstance(values, list):
            raise ExpressionError(f"must be a list, not {kind(values)}")
        if len(values) > MAX_ITEMS:
            raise ExpressionError(f"more than {MAX_ITEMS:,} items")
        return values


def _combinations(matrix: Json) -> list[Json]:
    """Combine as GitHub Actions does: ``exclude`` removes matching combinations, then ``include`` adds values.

    An entry of ``include`` is added to each combination whose list values it does not change; if there is none, the
    entry becomes a combination of its own.
    """
    if not isinstance(matrix, dict):
        raise ExpressionError(f"must be an object of lists, not {kind(matrix)}")
    names = sorted(matrix.keys() - {"include", "exclude"})  # the database does not keep the order of keys
    for name in names:
        if not isinstance(matrix[name], list):
            raise ExpressionError(f"{name} must be a list, not {kind(matrix[name])}")
    rows = product(*(values for name in names if isinstance(values := matrix[name], list)))
    combined = [dict(zip(names, row, strict=True)) for row in islice(rows, MAX_ITEMS + 1)] if names else []
    exclude, include = (_entries(matrix, key) for key in ("exclude", "include"))
    combined = [row for row in combined if not any(_matches(row, entry, entry.keys()) for entry in exclude)]
    plain, more = [dict(row) for row in combined], []
    for entry in include:
        fitting = [n for n, row in enumerate(plain) if _matches(row, entry, entry.keys() & set(names))]
        for n in fitting:
            combined[n] |= entry
        if not fitting:
            more.append(entry)
    return [*combined, *more]


def _entries(matrix: JsonObject, key: str) -> list[JsonObject]:
    value = matrix.get(key) or []
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    if entries != value:
        raise ExpressionError(f"{key} must be a list of objects, not {kind(value)}")
    if len(entries) > MAX_ENTRIES:
        raise ExpressionError(f"{key} has {len(entries):,} entries; at most {MAX_ENTRIES:,}")
    return entries


def _matches(row: JsonObject, entry: JsonObject, names: Iterable[str]) -> bool:
    return all(name in row and equal(row[name], entry[name]) for name in names)


def parse_items(
    document: JsonObject, max_parallel: int, fail_fast: bool, path: str, faults: list[Fault]
) -> Items | None:
    """Return the items in *document*; None if the step is not a foreach. Adds to *faults*."""
    keys = [key for key in ("foreach", "matrix") if document.get(key) is not None]
    if len(keys) != 1:
        if keys:
            faults.append(Fault(path=below(path, "matrix"), message="give foreach: or matrix:, not both"))
        for key in ("max_parallel", "fail_fast"):
            if not keys and key in document:
                faults.append(Fault(path=below(path, key), message="is allowed only with foreach: or matrix:"))
        return None
    (key,) = keys
    source = document[key]
    if key == "matrix" and isinstance(source, str) and source.strip().startswith("${{"):
        pass  # evaluates to an object
    elif key == "matrix" and (not isinstance(source, dict) or not source):
        message = f"must be an object of lists, or an expression in ${{{{ }}}}, not {kind(source)}"
        faults.append(Fault(path=below(path, key), message=message))
    elif key == "matrix" and isinstance(source, dict):
        faults += _matrix_faults(source, below(path, key))
    elif key == "foreach" and not isinstance(source, (list, str)):
        faults.append(Fault(path=below(path, key), message=f"must be a list or an expression, not {kind(source)}"))
    elif isinstance(source, str) and "${{" not in source:
        faults.append(Fault(path=below(path, key), message="must be a list, or an expression in ${{ }}"))
    return Items(
        source=template(source, below(path, key), faults),
        is_matrix=key == "matrix",
        max_parallel=max_parallel,
        fail_fast=fail_fast,
    )


def _matrix_faults(matrix: JsonObject, path: str) -> Iterator[Fault]:
    """Yield the faults of a matrix that can be found before its expressions are evaluated."""
    names = matrix.keys() - {"include", "exclude"}
    if not names and "include" not in matrix:
        yield Fault(path=path, message="needs a list, or include:")
    for name, value in matrix.items():
        place = below(path, name)
        if isinstance(value, str) and value.strip().startswith("${{"):
            continue
        if not isinstance(value, list):
            yield Fault(path=place, message=f"must be a list, or an expression in ${{{{ }}}}, not {kind(value)}")
        elif name in ("include", "exclude"):
            for n, entry in enumerate(value):
                if not isinstance(entry, dict):
                    yield Fault(path=f"{place}[{n}]", message=f"must be an object, not {kind(entry)}")
                elif name == "exclude" and (unknown := sorted(entry.keys() - names)):
                    message = f"{unknown[0][:60]!r} is not a key of the matrix, so this excludes nothing"
                    yield Fault(
                        path=f"{place}[{n}].{unknown[0][:60]}", message=f"{message}{guess(unknown[0][:60], names)}"
                    )


_ENTRIES: JsonObject = {"type": ["array", "string"], "items": {"type": "object"}}
_MATRIX: JsonObject = {
    "type": ["object", "string"],
    "minProperties": 1,
    "properties": {
        "exclude": {"description": "Removes the combinations that have all values of an entry", **_ENTRIES},
        "include": {"description": "Adds values to matching combinations, or else new combinations", **_ENTRIES},
    },
    "additionalProperties": {"type": ["array", "string"]},
}
FOREACH_FIELDS = {
    "foreach": Field(as_is({"type": ["array", "string"]}), "Run the step once for each item of this list"),
    "matrix": Field(as_is(_MATRIX), "Run the step once for each combination of the values of these lists"),
    "max_parallel": Field(
        integer(1, MAX_ITEMS), "Maximum number of items that are active at a time", default=MAX_ITEMS
    ),
    "fail_fast": Field(FLAG, "If false, all items run even if one of them fails; then the step fails", default=True),
}
