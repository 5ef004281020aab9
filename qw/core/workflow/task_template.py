"""What a step asks to be done: a task's type and the template of its payload, read from ``type:`` or ``run:``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qw.core.errors import Fault
from qw.core.expression import ExpressionError, Scope, Template, has_expression
from qw.core.expression.evaluation import kind, text
from qw.core.parsing import below, mapping
from qw.core.task.command import parse_shell
from qw.core.task.payload import Json, JsonObject, payload_faults, raise_faults

COMMAND = "command"  # the type that a ``run:`` step becomes
WORK_KEYS = ("type", "run", "shell", "with", "env")

_VARIABLE = re.compile(r"(?!QW_|LD_)[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, kw_only=True)
class TaskTemplate:
    """A task's type and the template of its payload. ``is_program``: the document itself says which program runs."""

    type: str
    payload: Template
    is_program: bool = False

    def render(self, scope: Scope) -> JsonObject:
        """The payload over *scope*. Raise ExpressionError, or Invalid where it could not be stored."""
        payload = self.payload.render(scope)
        assert isinstance(payload, dict)
        if self.is_program and isinstance(variables := payload.get("env"), dict):
            payload["env"] = {name: text(value) for name, value in variables.items()}
        raise_faults(iter(payload_faults(payload, path="with")))
        return payload


def parse_work(document: JsonObject, path: str, faults: list[Fault]) -> TaskTemplate:
    """The work in *document*; adds to *faults*."""
    given = mapping(document, "with", path, faults)
    if "run" in document:
        return _run(document, given, path, faults)
    type_ = document.get("type")
    if type_ is None:
        faults.append(Fault(path=path, message="needs type: (which handler) or run: (a shell command)"))
    elif not isinstance(type_, str):
        faults.append(Fault(path=below(path, "type"), message=f"must be the name of a type, not {kind(type_)}"))
    if "env" in document:
        faults.append(Fault(path=below(path, "env"), message="goes with run: only; values for a type go under with:"))
    if "shell" in document:
        faults.append(Fault(path=below(path, "shell"), message="goes with run: only"))
    is_program = type_ == COMMAND and not given.keys().isdisjoint(("run", "argv"))
    if is_program:
        faults += _pasted_faults(given.get("run"), below(path, "with.run"))
        parse_shell(given.get("shell"), below(path, "with.shell"), faults)
    return TaskTemplate(
        type=type_ if isinstance(type_, str) else COMMAND,
        payload=template(given, below(path, "with"), faults),
        is_program=is_program,
    )


def _run(document: JsonObject, given: JsonObject, path: str, faults: list[Fault]) -> TaskTemplate:
    command, variables = document["run"], mapping(document, "env", path, faults)
    if "type" in document:
        faults.append(Fault(path=below(path, "run"), message="give type: or run:, not both"))
    if not isinstance(command, str) or not command.strip():
        faults.append(Fault(path=below(path, "run"), message="must be the text of a shell command"))
    pasted = list(_pasted_faults(command, below(path, "run")))
    faults += [*pasted, *_variable_faults(variables, below(path, "env"))]
    template(given, below(path, "with"), faults)
    template(variables, below(path, "env"), faults)
    payload: JsonObject = {"run": "" if pasted else command}
    if parse_shell(document.get("shell"), below(path, "shell"), faults):
        payload["shell"] = document["shell"]
    if variables:
        payload["env"] = variables
    if given:
        payload["input"] = given
    return TaskTemplate(type=COMMAND, payload=template(payload, path, []), is_program=True)


def _pasted_faults(command: Json, path: str) -> Iterator[Fault]:
    if has_expression(command):
        message = 'contains an expression, whose value the shell would run as code; put it under env: and use "$NAME"'
        yield Fault(path=path, message=message)


def _variable_faults(variables: JsonObject, path: str) -> Iterator[Fault]:
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            message = f"{name[:60]!r} cannot be set: letters, digits and _, and not QW_… or LD_…"
            yield Fault(path=f"{path}.{name}", message=message)
        elif isinstance(value, (dict, list)):
            yield Fault(path=f"{path}.{name}", message=f"must be one value, not {kind(value)}")


def template(value: Json, path: str, faults: list[Fault]) -> Template:
    """*value* with its expressions checked; what is wrong goes to *faults*."""
    try:
        return Template.parse(value, where=path)
    except ExpressionError as error:
        faults += error.faults
        return Template(root={})
