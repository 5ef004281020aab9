"""Step templates: steps with parameters, defined under ``templates:`` and used with ``template:`` and ``params:``.

They are expanded when a file is read: stored definitions contain only the resulting steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from qw.core.errors import Fault
from qw.core.expression import ExpressionError, has_expression
from qw.core.expression.evaluation import kind, text
from qw.core.expression.expression import rewritten
from qw.core.expression.grammar import KEY
from qw.core.fields import Field, Object
from qw.core.parsing import below, hint, refuse_unknown
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.inputs import INPUTS, TYPES, Input
from qw.core.workflow.step import STEP

MERGED = ("env", "with", "retry")  # objects in which a step may override single keys of its template

PARAMS_FIELD = Field(INPUTS, "Parameters of the template", default={})
TEMPLATE = Object(
    "a template", {**{key: field for key, field in STEP.fields.items() if key != "id"}, "params": PARAMS_FIELD}
)

_BARE = ("if", "when", "until", "while")  # keys with expressions that need no ${{ }}
_ALONE = re.compile(rf"params\.({KEY})")
_TOKEN = re.compile(rf"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|(?<![\w.])params\.({KEY})""")
_WHOLE = re.compile(rf"\$\{{\{{\s*params\.({KEY})\s*\}}\}}")
_OWN_KEYS = ("id", "template", "params")


@dataclass(frozen=True, kw_only=True)
class StepTemplate:
    """``step``: the document of a step without its id. ``params``: declared like the inputs of a workflow."""

    name: str
    params: Mapping[str, Input]
    step: JsonObject


def parse_template(name: str, document: Json, faults: list[Fault]) -> StepTemplate | None:
    """Return the template in *document*. Adds to *faults*, with paths inside the template."""
    if not isinstance(document, dict):
        faults.append(
            Fault(path="", message=f"a template must be an object with the keys of a step, not {kind(document)}")
        )
        return None
    params = PARAMS_FIELD.read(document, "params", "", faults)
    for key in ("id", "template"):
        if key in document:
            faults.append(Fault(path=key, message=f"{key!r} belongs to the step that uses the template"))
    refuse_unknown(document, [*TEMPLATE.keys, *_OWN_KEYS], "", "a template", faults)
    step = {key: value for key, value in document.items() if key in TEMPLATE.keys and key != "params"}
    _Filling(dict.fromkeys(params), faults, declared=params).fill(step, "")
    return StepTemplate(name=name, params=params, step=step)


def from_template(template: StepTemplate, step: JsonObject, faults: list[Fault]) -> JsonObject:
    """Return the document of *step* with the keys of *template*. The step's own keys take precedence.

    Adds to *faults*, with paths inside the step; the returned step is then incomplete.
    """
    params = step.get("params") or {}
    if not isinstance(params, dict):
        faults.append(Fault(path="params", message=f"must be an object, not {kind(params)}"))
        params = {}
    values = {name: params.get(name, param.default) for name, param in template.params.items()}
    faults += _wrong(template, params)
    made = _Filling(values, faults).fill(template.step, "")
    assert isinstance(made, dict)
    own = {key: value for key, value in step.items() if key not in ("template", "params")}
    for key in MERGED:
        if isinstance(base := made.get(key), dict) and isinstance(more := own.get(key), dict):
            own[key] = {**base, **more}
    return {**own, **{key: value for key, value in made.items() if key not in own}}


def _wrong(template: StepTemplate, params: JsonObject) -> Iterator[Fault]:
    for name in params:
        if name not in template.params:
            known = ", ".join(template.params) or "none"
            message = f"is not a parameter of the template {template.name}; there are: {known}"
            yield Fault(path=f"params.{name[:60]}", message=f"{message}{hint(name, template.params, [])}")
    for name, param in template.params.items():
        words, is_right = TYPES[param.type]
        if name not in params and param.required:
            yield Fault(path="template", message=f"needs params.{name}: {words}")
        elif name in params and not has_expression(params[name]) and not is_right(params[name]):
            yield Fault(path=f"params.{name}", message=f"must be {words}, not {kind(params[name])}")


def _lone(value: str) -> str:
    """Return the source of *value* if it is a single expression, else an empty string."""
    sources: list[str] = []

    def keep(source: str) -> str:
        sources.append(source)
        return ""

    return sources[0] if not rewritten(value, keep).strip() and len(sources) == 1 else ""


class _Filling:
    """Replaces ``params.NAME`` by *values*. With *declared*, other names are faults."""

    def __init__(self, values: JsonObject, faults: list[Fault], declared: Iterable[str] | None = None) -> None:
        self._values = values
        self._faults = faults
        self._declared = declared

    def fill(self, value: Json, path: str) -> Json:
        if isinstance(value, dict):
            return {key: self._keyed(key, item, below(path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, f"{path}[{n}]") for n, item in enumerate(value)]
        return self._text(value, path) if isinstance(value, str) and "${{" in value else value

    def _keyed(self, key: str, value: Json, path: str) -> Json:
        if key in _BARE and isinstance(value, str) and "${{" not in value:
            return self._expression(value, path)
        return self.fill(value, path)

    def _text(self, value: str, path: str) -> Json:
        whole = _WHOLE.fullmatch(value)
        if whole and whole[1] in self._values:
            return self._values[whole[1]]

        def piece(source: str) -> str:
            alone = _ALONE.fullmatch(source)
            if alone and alone[1] in self._values:
                return text(self._values[alone[1]])
            return f"${{{{ {self._expression(source, path)} }}}}"

        try:
            return rewritten(value, piece)
        except ExpressionError:
            return value  # reported when the step is parsed

    def _expression(self, source: str, path: str) -> str:
        return _TOKEN.sub(lambda token: self._operand(token, path), source)

    def _operand(self, token: re.Match[str], path: str) -> str:
        name = token[1]
        if name and name not in self._values and self._declared is not None:
            message = f"uses params.{name[:60]}, which is not under params:{hint(name, self._declared, self._faults)}"
            self._faults.append(Fault(path=path, message=message))
        if not name or name not in self._values:
            return token[0]
        value = self._values[name]
        if not has_expression(value):
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, str) and (source := _lone(value)):
            return f"({source})"
        message = f"params.{name} is more than one expression here and cannot be part of a larger one"
        self._faults.append(Fault(path=f"params.{name}", message=message))
        return "null"
