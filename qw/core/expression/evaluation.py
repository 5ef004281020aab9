"""Evaluates checked expressions over JSON data: few operators and functions, each bounded in time and size.

Only `qw.core.expression` calls this module, with checked trees. No Python attribute can be accessed: a dot reads a key
of an object.
"""

from __future__ import annotations

import ast
import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from qw.core.errors import Invalid, guess
from qw.core.expression import functions
from qw.core.expression.functions import MAX_SIZE, sort_key
from qw.core.task.error_kind import code_of
from qw.core.task.payload import MAX_INT, MIN_INT, Json

MAX_WORK = 200_000  # limit of nested map(), filter() and sort(): values visited, plus sizes of arguments


class ErrorText(str):
    """The error of a step: a text whose ``kind``, ``code`` and ``message`` expressions can also read."""

    kind: str | None

    def __new__(cls, text: str, kind: str | None) -> ErrorText:
        error = super().__new__(cls, text)
        error.kind = kind
        return error

    @property
    def parts(self) -> dict[str, Json]:
        return {"kind": self.kind, "code": code_of(self.kind), "message": str(self)}


_ERROR_PARTS = ("kind", "code", "message")

Scope: TypeAlias = Mapping[str, Json]

LITERALS: dict[str, Json] = {"true": True, "false": False, "null": None}


class ExpressionError(Invalid):
    """The expression is not allowed, or cannot be evaluated with the available data."""


class MissingValue(ExpressionError):
    """A key, item or member of null does not exist; ``??`` and ``default()`` treat it as null."""


def evaluate(node: ast.expr, scope: Scope) -> Json:
    """Return the value of *node*. Raise ExpressionError if it has none."""
    value = _value(node, scope)
    return str(value) if isinstance(value, ErrorText) else value


def _value(node: ast.expr, scope: Scope) -> Json:
    match node:
        case ast.Constant(value=value):
            return value  # type: ignore[return-value]  # the check lets only JSON constants through
        case ast.Name(id=name):
            return LITERALS[name] if name in LITERALS else scope[name]
        case ast.Attribute(value=of, attr=key):
            return _item(of, _value(of, scope), key)
        case ast.Subscript(value=of, slice=index):
            return _item(of, _value(of, scope), evaluate(index, scope))
        case ast.BoolOp(op=op, values=values):
            return _either(isinstance(op, ast.Or), values, scope)
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):  # Invert stands for !
            return not evaluate(operand, scope)
        case ast.UnaryOp(operand=operand):
            return _bounded(-_number(evaluate(operand, scope), "-"))
        case ast.Compare():
            return _compare(node, scope)
        case ast.BinOp(left=left, op=op, right=right):
            return _combine(type(op), evaluate(left, scope), evaluate(right, scope))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return evaluate(body if evaluate(test, scope) else orelse, scope)
        case ast.Call(func=ast.Name(id="now")):
            return _now(scope)
        case ast.Call(func=ast.Name(id="default"), args=[value, other]):
            return evaluate(other, scope) if (result := _or_null(value, scope)) is None else result
        case ast.Call(func=ast.Name(id="map" | "filter" | "sort" as name), args=[of, by]):
            return _each(name, of, by, scope)
        case ast.Call(func=ast.Name(id=name), args=args):
            arguments = [evaluate(arg, scope) for arg in args]
            _charge(scope, *arguments)
            return _call(name, arguments)
        case ast.List(elts=elements):
            return [evaluate(element, scope) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return {_key(key, scope): evaluate(value, scope) for key, value in zip(keys, values, strict=True)}
    raise ExpressionError(f"{type(node).__name__} is not allowed in an expression")


def text(value: Json) -> str:
    """Return *value* as text inside a longer text: null is empty, objects and lists are JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    check_size(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def check_size(value: Json) -> None:
    """Raise ExpressionError if the JSON of *value* is longer than MAX_SIZE. Stops counting there."""
    left, stack = MAX_SIZE, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            left -= 2 + sum(len(key) + 4 for key in item)
            stack += item.values()
        elif isinstance(item, list):
            left -= 2 + len(item)
            stack += item
        else:
            left -= len(item) + 2 if isinstance(item, str) else len(repr(item))
        if left < 0:
            raise ExpressionError(f"the value is larger than {MAX_SIZE:,} characters")


def kind(value: object) -> str:
    """Return the JSON type of *value*, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _item(of: ast.expr, value: Json, key: Json) -> Json:
    if isinstance(value, ErrorText):
        value = value.parts
    elif value is None and key in _ERROR_PARTS and _is_error(of):
        return None  # the step did not fail
    if isinstance(value, dict) and isinstance(key, str):
        if key in value:
            _check_whole(of, value, key)
            return value[key]
        raise MissingValue(f"{_source(of)} has no {key[:60]!r}; {_keys(value)}{guess(key[:60], list(value)[:50])}")
    if isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool):
        if -len(value) <= key < len(value):
            return value[key]
        raise MissingValue(f"{_source(of)} has {len(value)} items, so no [{key}]")
    if value is None:
        raise MissingValue(f"cannot take {str(key)[:60]!r} of {_source(of)}, which is null; write … ?? '' if it may be")
    raise ExpressionError(f"cannot take {str(key)[:60]!r} of {_source(of)}, which is {kind(value)}")


def _is_error(node: ast.expr) -> bool:
    """Whether *node* is ``steps.ID.error`` or ``run.error``, which are null if nothing failed."""
    match node:
        case ast.Attribute(value=ast.Name(id="run"), attr="error"):
            return True
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="steps")) | ast.Subscript(value=ast.Name(id="steps"))):
            return node.attr == "error"
    return False


def _check_whole(of: ast.expr, value: Mapping[str, Json], key: str) -> None:
    """Raise ExpressionError for truncated values, from which an expression would compute a wrong result."""
    cut = value.get("cut") if value.get("truncated") is True else None
    if isinstance(cut, dict) and isinstance(why := cut.get(key), str):
        raise ExpressionError(f"{_source(of)}.{key} is not whole: {why}")


def _keys(value: Mapping[str, Json]) -> str:
    names = [key[:60] for key in value][:20]
    more = ", …" if len(value) > 20 else ""
    return f"it has {', '.join(names)}{more}" if names else "it is empty"


def _source(node: ast.expr) -> str:
    source = ast.unparse(node).replace("~", "!").replace(f"or {COALESCE} or", "??")
    return source if len(source) <= 80 else f"{source[:79]}…"


def _key(key: ast.expr | None, scope: Scope) -> str:
    value = evaluate(key, scope) if key is not None else None
    if not isinstance(value, str):
        raise ExpressionError(f"the key of an object must be a string, not {kind(value)}")
    return value


def _either(is_or: bool, values: list[ast.expr], scope: Scope) -> Json:
    value: Json = None
    is_coalescing = False
    for n, node in enumerate(values):
        if is_coalesce(node):
            is_coalescing = True
            continue
        if n and (value is not None if is_coalescing else bool(value) is is_or):
            is_coalescing = False
            continue
        is_coalescing = False
        before_coalesce = n + 1 < len(values) and is_coalesce(values[n + 1])
        value = _or_null(node, scope) if before_coalesce else evaluate(node, scope)
    return value


COALESCE = "_coalesce_"  # the marker between two values of an ``or`` that were written with ??


def is_coalesce(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == COALESCE


def _or_null(node: ast.expr, scope: Scope) -> Json:
    """Return the value of *node*, or null if it reads something that does not exist."""
    try:
        return evaluate(node, scope)
    except MissingValue:
        return None


class _ItemScope(dict[str, Json]):
    """The scope of one item in map(), filter() and sort(). Nested calls share the count in ``work``."""

    def __init__(self, outer: Scope, work: list[int]) -> None:
        super().__init__()
        self._outer = outer
        self.work = work

    def __missing__(self, key: str) -> Json:
        return self._outer[key]


def _each(name: str, of: ast.expr, by: ast.expr, scope: Scope) -> Json:
    items = evaluate(of, scope)
    if not isinstance(items, list):
        raise ExpressionError(f"{name}() needs a list, not {kind(items)}")
    inner = _ItemScope(scope, scope.work if isinstance(scope, _ItemScope) else [MAX_WORK])
    values = []
    for index, item in enumerate(items):
        inner["item"], inner["index"] = item, index
        _charge(inner, 10)
        values.append(evaluate(by, inner))
    if name == "map":
        return values
    if name == "filter":
        return [item for item, value in zip(items, values, strict=True) if value]
    try:
        order = sorted(range(len(items)), key=lambda n: sort_key(values[n]))
    except TypeError:
        raise ExpressionError("sort() orders numbers, strings and booleans only") from None
    return [items[n] for n in order]


def _charge(scope: Scope, *values: Json) -> None:
    """Inside map(), filter() or sort(), count the work. Raise ExpressionError above MAX_WORK."""
    if isinstance(scope, _ItemScope):
        for value in values:
            scope.work[0] -= len(value) // 8 + 1 if isinstance(value, (str, list, dict)) else 1
        if scope.work[0] < 0:
            raise ExpressionError("map(), filter() and sort() within one another go over too many items")


def _now(scope: Scope) -> str:
    try:
        return str(scope["now"])
    except KeyError:
        raise ExpressionError("now() has no value here") from None


def _compare(node: ast.Compare, scope: Scope) -> bool:
    left = evaluate(node.left, scope)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        right = evaluate(right_node, scope)
        _charge(scope, right)
        if not COMPARISONS[type(op)](left, right):
            return False
        left = right
    return True


def equal(left: Json, right: Json) -> bool:
    """Compare as JSON: true is not equal to 1."""
    return isinstance(left, bool) is isinstance(right, bool) and left == right


def _within(item: Json, whole: Json) -> bool:
    if isinstance(whole, str) and isinstance(item, str):
        return item in whole
    if isinstance(whole, list):
        return any(equal(item, member) for member in whole)
    if isinstance(whole, dict):
        return isinstance(item, str) and item in whole
    raise ExpressionError(f"cannot look for {kind(item)} in {kind(whole)}")


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Json, Json], bool]:
    def checked(left: Json, right: Json) -> bool:
        if not (isinstance(left, str) and isinstance(right, str)) and not (_is_number(left) and _is_number(right)):
            raise ExpressionError(f"{kind(left)} and {kind(right)} have no order")
        return compare(left, right)

    return checked


COMPARISONS: dict[type[ast.cmpop], Callable[[Json, Json], bool]] = {
    ast.Eq: equal,
    ast.NotEq: lambda left, right: not equal(left, right),
    ast.Is: equal,
    ast.IsNot: lambda left, right: not equal(left, right),
    ast.In: _within,
    ast.NotIn: lambda item, whole: not _within(item, whole),
    ast.Lt: _ordered(operator.lt),
    ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt),
    ast.GtE: _ordered(operator.ge),
}


OPERATORS: dict[type[ast.operator], tuple[str, Callable[[Any, Any], int | float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
}


def _combine(op: type[ast.operator], left: Json, right: Json) -> Json:
    sign, apply = OPERATORS[op]
    if op is ast.Add and isinstance(left, str) and isinstance(right, str):
        check_size([left, right])
        return left + right
    try:
        return _bounded(apply(_number(left, sign), _number(right, sign)))
    except (ZeroDivisionError, OverflowError) as error:
        raise ExpressionError(str(error)) from None


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Json, sign: str) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise ExpressionError(f"{sign!r} needs numbers, not {kind(value)}")


def _bounded(value: int | float) -> int | float:
    """Limit numbers to what can be stored, which also bounds the time of each operation."""
    if (MIN_INT <= value <= MAX_INT) if isinstance(value, int) else math.isfinite(value):
        return value
    raise ExpressionError("the number is too large")


def _merge(*objects: Json) -> Json:
    """Return one object with the keys of all; for a key in several objects, the last one wins."""
    merged: dict[str, Json] = {}
    for part in objects:
        if not isinstance(part, dict):
            raise ExpressionError(f"merge() takes objects, not {kind(part)}")
        merged |= part
    return merged


def _call(name: str, args: list[Json]) -> Json:
    low, high, function = FUNCTIONS[name]
    if not low <= len(args) <= high:
        raise ExpressionError(f"{name}() takes {low if low == high else f'{low} to {high}'} arguments, not {len(args)}")
    try:
        value: Json = function(*args)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        why = f": {error}" if name in _EXPLAINED and isinstance(error, ValueError) and str(error) else ""
        raise ExpressionError(f"{name}() has no value for {', '.join(map(kind, args))}{why}") from None
    return _bounded(value) if isinstance(value, (int, float)) else value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _len(value: Any) -> int:
    return len(value)


def _join(items: Any, separator: Any = ",") -> str:
    if not isinstance(items, list):
        raise TypeError
    texts = [text(item) for item in items]
    if sum(map(len, texts)) + len(_string(separator)) * len(texts) > MAX_SIZE:
        raise ExpressionError(f"join() makes more than {MAX_SIZE:,} characters")
    return separator.join(texts) if isinstance(separator, str) else ""


def _numbers(items: Iterable[Any]) -> list[Any]:
    numbers = list(items)
    if not all(map(_is_number, numbers)):
        raise TypeError
    return numbers


def _extreme(pick: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    """Return ``min(list)`` or ``min(a, b, …)`` (or max) for numbers or strings."""

    def checked(first: Any, *rest: Any) -> Any:
        items = [first, *rest] if rest else first
        if isinstance(items, list) and items and all(isinstance(item, str) for item in items):
            return pick(items)
        return pick(_numbers(items))

    return checked


def _round(value: Any, digits: Any = None) -> int | float:
    if digits is not None and digits not in range(16):
        raise ValueError
    rounded: int | float = round(_numbers([value])[0], digits)
    return rounded


def _int(value: Any) -> int:
    if isinstance(value, str) and len(value) > 40:
        raise ValueError
    return int(value)


def _sort(items: Any) -> list[Any]:
    return sorted(functions.listed(items), key=sort_key)


def _special(*args: Any) -> Any:
    raise TypeError


_EXPLAINED = ("match", "fromjson", "range")

# By name: minimum and maximum number of arguments, and the function. Each takes linear time or rejects its arguments.
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    **functions.FUNCTIONS,
    "filter": (2, 2, _special),
    "map": (2, 2, _special),
    "now": (0, 0, _special),
    "sort": (1, 2, _sort),
    "contains": (2, 2, lambda whole, item: _within(item, whole)),
    "default": (2, 2, lambda value, other: other if value is None else value),
    "endswith": (2, 2, lambda value, end: _string(value).endswith(_string(end))),
    "float": (1, 1, float),
    "int": (1, 1, _int),
    "join": (1, 2, _join),
    "keys": (1, 1, lambda value: list(value.keys())),
    "len": (1, 1, _len),
    "lower": (1, 1, lambda value: _string(value).lower()),
    "max": (1, 20, _extreme(max)),
    "merge": (1, 20, _merge),
    "min": (1, 20, _extreme(min)),
    "round": (1, 2, _round),
    "startswith": (2, 2, lambda value, start: _string(value).startswith(_string(start))),
    "str": (1, 1, text),
    "strip": (1, 1, lambda value: _string(value).strip()),
    "sum": (1, 1, lambda items: sum(_numbers(items))),
    "upper": (1, 1, lambda value: _string(value).upper()),
}
FUNCTIONS = dict(sorted(FUNCTIONS.items()))
