"""A step with ``run:``: the payload of its ``command`` task, read from the keys beside the text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qw.core.errors import Fault
from qw.core.expression import has_expression
from qw.core.expression.evaluation import kind
from qw.core.parsing import below, mapping
from qw.core.task.command import ARTIFACT, parse_cwd, parse_output, parse_shell, parse_user
from qw.core.task.payload import Json, JsonObject

RUN_KEYS = ("run", "shell", "env", "cwd", "stdin", "user", "output", "artifacts")

_VARIABLE = re.compile(r"(?!QW_|LD_)[A-Za-z_][A-Za-z0-9_]{0,127}")


def parse_run(document: JsonObject, given: JsonObject, path: str, faults: list[Fault]) -> JsonObject:
    """The payload of the step in *document*, expressions unread; *given* is its ``with:``. Adds to *faults*."""
    text, variables = document["run"], mapping(document, "env", path, faults)
    if not isinstance(text, str) or not text.strip():
        faults.append(Fault(path=below(path, "run"), message=not_a_command(text)))
    pasted = list(pasted_faults(text, below(path, "run")))
    faults += [*pasted, *_variable_faults(variables, below(path, "env"))]
    payload: JsonObject = {"run": "" if pasted else text}
    if parse_shell(document.get("shell"), below(path, "shell"), faults):
        payload["shell"] = document["shell"]
    if variables:
        payload["env"] = variables
    if document.get("stdin") is not None:
        payload["input"] = document["stdin"]
        if given:
            faults.append(
                Fault(path=below(path, "stdin"), message="give stdin: or with:, not both: with: is passed on stdin too")
            )
    elif given:
        payload["input"] = given
    for key, parse in (("cwd", parse_cwd), ("user", parse_user), ("output", parse_output), ("artifacts", _artifacts)):
        if (value := document.get(key)) is not None and parse(value, below(path, key), faults):
            payload[key] = value
    return payload


def not_a_command(value: Json) -> str:
    """What is wrong with a command that is no text, or is empty."""
    if isinstance(value, bool):
        word = str(value).lower()
        return f"must be the text of a shell command; YAML reads {word} as a boolean: write '{word}' in quotes"
    if isinstance(value, list):
        return "must be the text of a shell command, not a list: give its lines as one text after run: |"
    return "must be the text of a shell command"


def pasted_faults(command: Json, path: str) -> Iterator[Fault]:
    """That a value would become part of the shell's text."""
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


def _artifacts(value: Json, path: str, faults: list[Fault]) -> bool:
    if not isinstance(value, dict):
        message = f"must map names to paths, such as {{report: out/report.csv}}, not {kind(value)}"
        faults.append(Fault(path=path, message=message))
        return False
    for name, file in value.items():
        if not ARTIFACT.fullmatch(name):
            message = f"{name[:60]!r} is not a name of letters, digits and _ . - (at most 128)"
            faults.append(Fault(path=below(path, name[:60]), message=message))
        elif not isinstance(file, str) or not file:
            message = f"must be the path of a file or directory that the step leaves, not {kind(file)}"
            faults.append(Fault(path=below(path, name), message=message))
    return True
