"""Steps with ``run:``: the payload of their ``command`` task, read from the keys beside ``run:``."""

from __future__ import annotations

from collections.abc import Iterator

from qw.core.errors import Fault
from qw.core.expression import has_expression
from qw.core.expression.evaluation import kind
from qw.core.fields import Field, as_is, by_name, checked, choice
from qw.core.parsing import below
from qw.core.task.command import ARTIFACT, Background
from qw.core.task.payload import Json, JsonObject
from qw.core.task.run_fields import NOT_A_VARIABLE, RUN_FIELDS, VARIABLE

_VALUE = checked(
    {"type": ["string", "number", "boolean", "null"]},
    lambda value: not isinstance(value, (dict, list)),
    lambda value: f"must be one value, not {kind(value)}",
)
_FILE = checked(
    {"type": "string", "minLength": 1},
    lambda value: isinstance(value, str) and bool(value),
    lambda value: f"must be the path of a file or directory that the step leaves, not {kind(value)}",
)
SHELL_FIELDS = {
    "run": Field(as_is({"type": "string"}), "Shell script; pass values through env", null=False),
    **RUN_FIELDS,
    "env": Field(by_name(_VALUE, VARIABLE, NOT_A_VARIABLE), "Environment variables of run"),
    "artifacts": Field(
        by_name(
            _FILE,
            ARTIFACT,
            "is not a name of letters, digits and _ . - (at most 128)",
            must="must map names to paths, such as {report: out/report.csv}",
        ),
        "Files or directories that run creates and later steps of the run can use: paths by name",
    ),
    "background": Field(choice(Background), "What happens to processes that run leaves behind; default: end"),
}


def run_payload(document: JsonObject, given: JsonObject, path: str, faults: list[Fault]) -> JsonObject:
    """Return the payload of the step in *document*, unevaluated; *given* is its ``with:``. Adds to *faults*."""
    text, stdin = document["run"], document.get("stdin")
    if not isinstance(text, str) or not text.strip():
        faults.append(Fault(path=below(path, "run"), message=not_a_command(text)))
    pasted = list(pasted_faults(text, below(path, "run")))
    faults += pasted
    if given and stdin is not None:
        message = "give stdin: or with:, not both: with: is passed on stdin too"
        faults.append(Fault(path=below(path, "stdin"), message=message))
    payload: JsonObject = {"run": "" if pasted else text}
    for key in ("shell", "env", "cwd", "user", "output", "artifacts", "background"):
        if (value := document.get(key)) is not None and value != {}:
            payload[key] = value
    if stdin is not None or given:
        payload["input"] = given if stdin is None else stdin
    return payload


def not_a_command(value: Json) -> str:
    """Return the message for a command that is empty or not text."""
    if isinstance(value, bool):
        word = str(value).lower()
        return f"must be the text of a shell command; YAML reads {word} as a boolean: write '{word}' in quotes"
    if isinstance(value, list):
        return "must be the text of a shell command, not a list: give its lines as one text after run: |"
    return "must be the text of a shell command"


def pasted_faults(command: Json, path: str) -> Iterator[Fault]:
    """Yield a fault if an expression would become part of the shell's code."""
    if has_expression(command):
        message = 'contains an expression, whose value the shell would run as code; put it under env: and use "$NAME"'
        yield Fault(path=path, message=message)
