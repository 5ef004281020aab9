"""What a ``foreach:`` or a ``matrix:`` goes over, and how one is read from its document."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product

from qw.core.errors import Fault
from qw.core.expression import ExpressionError, Scope, Template
from qw.core.expression.evaluation import kind
from qw.core.parsing import below
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.task_template import template

FOREACH_KEYS = ("foreach", "matrix", "max_parallel")
MAX_ITEMS = 10_000
AT_ONCE = 500  # items that one pass starts; so a pass stays short and small, however many there are


@dataclass(frozen=True, kw_only=True)
class Items:
    """``source`` gives a list, or for a matrix an object of lists. At most ``max_parallel`` items run at a time."""

    source: Template
    is_matrix: bool = False
    max_parallel: int = MAX_ITEMS

    def values(self, scope: Scope) -> list[Json]:
        """The items, in order; those of a matrix are objects, the name that comes last in the alphabet varying fastest.

        Raise ExpressionError.
        """
        value = self.source.render(scope)
        found = _combinations(value) if self.is_matrix else value
        if not isinstance(found, list):
            raise ExpressionError(f"must be a list, not {kind(found)}")
        if len(found) > MAX_ITEMS:
            raise ExpressionError(f"more than {MAX_ITEMS:,} items")
        return found


def _combinations(matrix: Json) -> list[Json]:
    assert isinstance(matrix, dict)
    for name, values in matrix.items():
        if not isinstance(values, list):
            raise ExpressionError(f"{name} must be a list, not {kind(values)}")
    names = sorted(matrix)  # the database keeps no order of keys
    rows = product(*(values for name in names if isinstance(values := matrix[name], list)))
    return [dict(zip(names, row, strict=True)) for row in islice(rows, MAX_ITEMS + 1)]


def parse_items(document: JsonObject, path: str, faults: list[Fault]) -> Items | None:
    """What *document* goes over; None when it is done once. Adds to *faults*."""
    given = [key for key in ("foreach", "matrix") if document.get(key) is not None]
    if len(given) != 1:
        if given:
            faults.append(Fault(path=below(path, "matrix"), message="give foreach: or matrix:, not both"))
        if not given and "max_parallel" in document:
            faults.append(Fault(path=below(path, "max_parallel"), message="goes with foreach: or matrix: only"))
        return None
    (key,) = given
    source = document[key]
    if key == "matrix" and (not isinstance(source, dict) or not source):
        faults.append(Fault(path=below(path, key), message=f"must be an object of lists, not {kind(source)}"))
    elif key == "foreach" and not isinstance(source, (list, str)):
        faults.append(Fault(path=below(path, key), message=f"must be a list or an expression, not {kind(source)}"))
    elif isinstance(source, str) and "${{" not in source:
        faults.append(Fault(path=below(path, key), message="must be a list, or an expression in ${{ }}"))
    return Items(
        source=template(source, below(path, key), faults),
        is_matrix=key == "matrix",
        max_parallel=_max_parallel(document, path, faults),
    )


def _max_parallel(document: JsonObject, path: str, faults: list[Fault]) -> int:
    value = document.get("max_parallel", MAX_ITEMS)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ITEMS:
        return value
    message = f"must be a whole number from 1 to {MAX_ITEMS}, not {str(value)[:60]!r}"
    faults.append(Fault(path=below(path, "max_parallel"), message=message))
    return MAX_ITEMS
