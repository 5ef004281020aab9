"""Conditions in documents, such as ``if:``: bare expressions, or true and false."""

from __future__ import annotations

from qw.core.errors import Fault
from qw.core.expression import Condition, ExpressionError
from qw.core.expression.evaluation import kind
from qw.core.fields import Type
from qw.core.task.payload import Json


def _condition(value: Json, path: str, faults: list[Fault]) -> Condition | None:
    if not isinstance(value, (str, bool)):
        faults.append(Fault(path=path, message=f"must be an expression, not {kind(value)}"))
        return None
    source = value if isinstance(value, str) else str(value).lower()
    try:
        return Condition.parse(source)
    except ExpressionError as error:
        faults += [Fault(path=path, message=fault.message) for fault in error.faults]
        return None


CONDITION = Type(_condition, {"type": ["string", "boolean"]})
