"""The work of a step: a task type and the template of its payload, from ``type:`` or ``run:``."""

from __future__ import annotations

from dataclasses import dataclass, field

from qw.core.errors import Fault
from qw.core.expression import ExpressionError, Scope, Template
from qw.core.expression.evaluation import kind, text
from qw.core.fields import OBJECT, TEXT, Field, as_is
from qw.core.parsing import below
from qw.core.task.payload import Json, JsonObject, payload_faults, raise_faults
from qw.core.task.run_fields import RUN_FIELDS
from qw.core.workflow.secrets import SecretTexts, take_secrets
from qw.core.workflow.shell_step import SHELL_FIELDS, pasted_faults, run_payload

COMMAND = "command"  # the task type of ``run:`` steps


@dataclass(frozen=True, kw_only=True)
class TaskTemplate:
    """A task type and the template of its payload. ``is_program``: the document itself defines the program to run.

    ``secrets``: variables or headers that are not in the payload, because the daemon adds them.
    """

    type: str
    payload: Template
    is_program: bool = False
    secrets: SecretTexts = field(default_factory=SecretTexts)

    def render(self, scope: Scope) -> JsonObject:
        """Return the payload over *scope*. Raise ExpressionError, or Invalid if it cannot be stored."""
        payload = self.payload.render(scope)
        assert isinstance(payload, dict)
        if self.is_program:
            for key in ("env", "artifacts"):
                if isinstance(values := payload.get(key), dict):
                    payload[key] = {name: text(value) for name, value in values.items()}
        raise_faults(iter(payload_faults(payload, path="with")))
        return payload


WORK_FIELDS = {
    "type": Field(as_is(TEXT.schema), "A task type, or one of sleep, wait_signal, approval, workflow"),
    "with": Field(OBJECT, "Payload; may contain expressions: ${{ … }}", default={}),
    **SHELL_FIELDS,
}


def work_of(document: JsonObject, given: JsonObject, path: str, faults: list[Fault]) -> TaskTemplate:
    """Return the work in *document*, whose ``with:`` is *given*; adds to *faults*."""
    if "run" in document:
        return _run(document, given, path, faults)
    type_ = document.get("type")
    if type_ is None:
        faults.append(Fault(path=path, message="needs type: (which handler) or run: (a shell command)"))
    elif not isinstance(type_, str):
        faults.append(Fault(path=below(path, "type"), message=f"must be the name of a type, not {kind(type_)}"))
    for key in SHELL_FIELDS:
        if key in document:
            faults.append(Fault(path=below(path, key), message=f"is allowed only with run:{_INSTEAD.get(key, '')}"))
    is_program = type_ == COMMAND and not given.keys().isdisjoint(("run", "argv"))
    if is_program:
        faults += pasted_faults(given.get("run"), below(path, "with.run"))
        RUN_FIELDS["shell"].read(given, "shell", below(path, "with"), faults)
    given, secrets = _taken(given, _SECRET_KEYS.get(str(type_), ""), below(path, "with"), faults)
    return TaskTemplate(
        type=type_ if isinstance(type_, str) else COMMAND,
        payload=template(given, below(path, "with"), faults),
        is_program=is_program,
        secrets=secrets,
    )


_SECRET_KEYS = {COMMAND: "env", "http_request": "headers"}


def _taken(payload: JsonObject, key: str, path: str, faults: list[Fault]) -> tuple[JsonObject, SecretTexts]:
    """Split *payload*: texts with secrets under *key* are replaced by the names of the secrets, and returned apart."""
    left, secrets = take_secrets(payload.get(key), below(path, key), faults)
    if not secrets.texts:
        return payload, secrets
    return {**payload, key: left, "secrets": [*sorted(secrets.names())]}, secrets


def _run(document: JsonObject, given: JsonObject, path: str, faults: list[Fault]) -> TaskTemplate:
    if "type" in document:
        faults.append(Fault(path=below(path, "run"), message="give type: or run:, not both"))
    template(given, below(path, "with"), faults)
    payload, secrets = _taken(run_payload(document, given, path, faults), "env", path, faults)
    template(payload.get("env"), below(path, "env"), faults)
    for key in ("stdin", "cwd", "artifacts"):
        template(document.get(key), below(path, key), faults)
    return TaskTemplate(type=COMMAND, payload=template(payload, path, []), is_program=True, secrets=secrets)


_INSTEAD = {"env": "; values for a type go under with:", "stdin": "; data for a type goes under with:"}


def template(value: Json, path: str, faults: list[Fault]) -> Template:
    """Return *value* as a template; adds faults of its expressions to *faults*."""
    try:
        return Template.parse(value, where=path)
    except ExpressionError as error:
        faults += error.faults
        return Template(root={})
