"""Converts the data of state machines to expressions: paths, JSONata, choice rules, and changes of ``$``.

``data`` is ``$`` at a state: the source of an expression, or an object or a list of such sources.
"""

from __future__ import annotations

import json
import re
from typing import Any

from qw.core.task.payload import Json

_COMPARE = {"Equals": "==", "GreaterThan": ">", "GreaterThanEquals": ">=", "LessThan": "<", "LessThanEquals": "<="}
_PATH = re.compile(r"\$(?P<context>\$)?(?P<rest>(?:\.[\w-]+|\[\d+\]|\['[^']+'\])*)")


def rule_condition(rule: dict[str, Any], data: Any, notes: list[str]) -> str:
    if "Condition" in rule:
        return str(_jsonata(str(rule["Condition"]), data, notes))
    for key, word in (("And", " && "), ("Or", " || ")):
        if key in rule:
            return word.join(f"({rule_condition(one, data, notes)})" for one in rule[key])
    if "Not" in rule:
        return f"!({rule_condition(rule['Not'], data, notes)})"
    path = str(rule.get("Variable", "$"))
    operator, expected = next(
        ((key, value) for key, value in rule.items() if key not in ("Variable", "Next", "Comment")), ("", None)
    )
    if operator == "IsPresent":
        parent, _, last = path.rpartition(".")
        found = f"({source(literal(last))} in {source(at_path(parent or '$', data, notes))})"
        return found if expected else f"!{found}"
    value = source(at_path(path, data, notes))
    if operator == "IsNull":
        return f"{value} {'==' if expected else '!='} null"
    named = re.fullmatch(r"(String|Numeric|Boolean|Timestamp)(\w+?)(Path)?", operator)
    if named and named[2] in _COMPARE:
        other = at_path(str(expected), data, notes) if named[3] else literal(expected)
        return f"{value} {_COMPARE[named[2]]} {source(other)}"
    if operator == "StringMatches" and "\\" not in str(expected):
        pattern = ".*".join(map(re.escape, str(expected).split("*")))
        return f"match({value}, {source(literal(f'^{pattern}$'))})"
    notes.append(f"{operator} {expected} on {path} has no equivalent")
    return "false"


def passed(state: dict[str, Any], data: Any, notes: list[str]) -> Any:
    if state.get("Type") == "Succeed":
        return selected(state, data, notes)
    result = literal(state["Result"]) if "Result" in state else data
    asked = state.get("Parameters", state.get("Output"))
    if asked is not None:
        result = filled(asked, data, notes)
    return result if "ResultPath" not in state else put(state["ResultPath"], data, result)


def selected(state: dict[str, Any], result: Any, notes: list[str]) -> Any:
    if "ResultSelector" in state:
        return filled(state["ResultSelector"], result, notes)
    return filled(state["Output"], result, notes) if "Output" in state else result


def put(path: Any, data: Any, value: Any) -> Any:
    if path is None:
        return data
    if path == "$":
        return value
    keys = str(path).removeprefix("$.").split(".")
    return _with(data, keys, value)


def taken(path: Any, data: Any, notes: list[str]) -> Any:
    return {} if path is None else at_path(str(path), data, notes)


def at_path(path: str, data: Any, notes: list[str]) -> Any:
    found = _PATH.fullmatch(path)
    if not found:
        if path.startswith("States."):
            return _intrinsic(path, data, notes)
        notes.append(f"{path} has no equivalent")
        return "null"
    if found["context"]:
        if found["rest"].startswith(".Map.Item.Value"):
            return f"item{found['rest'].removeprefix('.Map.Item.Value')}"
        if found["rest"] == ".Map.Item.Index":
            return "index"
        return "run.id" if found["rest"] in (".Execution.Id", ".Execution.Name") else "null"
    for key in re.findall(r"\.([\w-]+)|\['([^']+)'\]|\[(\d+)\]", found["rest"]):
        name, quoted, index = key
        data = _member(data, int(index) if index else name or quoted)
    return data


def _intrinsic(text: str, data: Any, notes: list[str]) -> Any:
    found = re.fullmatch(r"States\.Format\('((?:[^'\\]|\\.)*)'((?:\s*,\s*\$[^,)]*)*)\)", text)
    if found:
        values = [source(at_path(one.strip(), data, notes)) for one in found[2].split(",")[1:]]
        pieces = found[1].split("{}")
        parts = [source(literal(pieces[0]))]
        for value, piece in zip(values, pieces[1:], strict=False):
            parts += [f"str({value})", source(literal(piece))]
        return " + ".join(part for part in parts if part != '""')
    notes.append(f"{text} has no equivalent")
    return "null"


def _jsonata(text: str, data: Any, notes: list[str]) -> Any:
    """Convert basic JSONata: paths of $states, comparisons, and, or."""
    inner = text.strip().removeprefix("{%").removesuffix("%}").strip()

    def path(found: re.Match[str]) -> str:
        value = data
        for key in [one for one in found[1].split(".") if one]:
            value = _member(value, key)
        return source(value)

    made = re.sub(r"\$states\.(?:input|result)((?:\.\w+)*)", path, inner)
    made = re.sub(r"(?<![=!<>])=(?!=)", "==", made)
    made = re.sub(r"\band\b", "&&", re.sub(r"\bor\b", "||", made))
    if "$" in made or re.search(r"[{\[|~]\s*\$", made):
        notes.append(f"JSONata {text} has no equivalent")
        return "null"
    return made


def filled(value: Any, data: Any, notes: list[str]) -> Any:
    """Return *value* with paths (keys that end with ``.$``) and JSONata texts as expressions."""
    if isinstance(value, dict):
        made = {}
        for key, one in value.items():
            if key.endswith(".$"):
                made[key[:-2]] = at_path(str(one), data, notes)
            else:
                made[key] = filled(one, data, notes)
        return made
    if isinstance(value, list):
        return [filled(one, data, notes) for one in value]
    if isinstance(value, str) and value.strip().startswith("{%"):
        return _jsonata(value, data, notes)
    return literal(value)


class _Literal(str):
    """The source of a literal, as distinct from other expressions."""


def literal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: literal(one) for key, one in value.items()}
    if isinstance(value, list):
        return [literal(one) for one in value]
    return _Literal(json.dumps(value, ensure_ascii=False))


def source(data: Any) -> str:
    """Return *data*, an expression or an object of expressions, as one expression."""
    if isinstance(data, dict) and _REST in data:
        return f"merge({source(data[_REST])}, {source({key: one for key, one in data.items() if key != _REST})})"
    if isinstance(data, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {source(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(source, data)) + "]"
    return str(data)


def template(data: Any) -> Json:
    """Return *data* as a JSON value with expressions in it."""
    if isinstance(data, dict) and _REST not in data:
        return {key: template(value) for key, value in data.items()}
    if isinstance(data, list):
        return [template(value) for value in data]
    if isinstance(data, _Literal):
        value: Json = json.loads(data)
        return value
    return None if data is None else f"${{{{ {source(data)} }}}}"


def _member(data: Any, key: Any) -> Any:
    if isinstance(data, dict):
        if key in data:
            return data[key]
        data = data.get(_REST, data)
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return data[key]
    if isinstance(key, int):
        return f"{source(data)}[{key}]"
    return f"{source(data)}.{key}" if re.fullmatch(r"[A-Za-z_]\w*", key) else f"{source(data)}[{json.dumps(key)}]"


_REST = "*"  # not a key of JSON paths: the other members of an object in which keys were replaced


def _with(data: Any, keys: list[str], value: Any) -> Any:
    known = dict(data) if isinstance(data, dict) else {_REST: data}
    inner = known.get(keys[0], _member(data, keys[0]) if len(keys) > 1 else None)
    known[keys[0]] = value if len(keys) == 1 else _with(inner, keys[1:], value)
    return known
