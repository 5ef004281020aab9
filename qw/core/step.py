"""A step of a workflow: what it asks to be done, when, and how it is tried; and how one is read from its document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.evaluation import kind, text
from qw.core.expression import Condition, ExpressionError, Scope, Template, has_expression
from qw.core.payload import Json, JsonObject, raise_faults, storable_faults
from qw.core.shape import below, mapping, names, refuse_unknown
from qw.core.task import DEFAULT_PRIORITY, DEFAULT_QUEUE, Backoff, NewTask, check_new

COMMAND = "command"  # the type that a ``run:`` step becomes


@dataclass(frozen=True, kw_only=True)
class Work:
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
        raise_faults(storable_faults(payload, "with"))
        return payload


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node of a workflow. What is None is left to the policy of its type."""

    id: str
    work: Work
    needs: tuple[str, ...] = ()
    condition: Condition | None = None
    compensate: Work | None = None
    max_retries: int | None = None
    timeout: timedelta | None = None
    backoff: Backoff | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY

    @property
    def works(self) -> list[Work]:
        return [self.work] if self.compensate is None else [self.work, self.compensate]


_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"(?!QW_|LD_)[A-Za-z_][A-Za-z0-9_]{0,127}")
_WORK_KEYS = ("type", "run", "with", "env")
_LATE_KEYS = ("id", *_WORK_KEYS, "if", "when", "retry", "timeout", "queue", "priority")
_KEYS = (*_LATE_KEYS, "needs", "depends", "compensate")
_RETRY_KEYS = ("max_retries", "delay", "backoff", "max_delay", "retry_on", "give_up_on")
_ALIASES = {"needs": "depends", "if": "when"}


def parse_step(document: Json, path: str, faults: list[Fault], *, is_late: bool = False) -> Step | None:
    """The step in *document*, None when it has no usable id. What is wrong goes to *faults*; the rest is still read.

    *is_late*: a step of ``on_failure``. Those run one after another, so ``needs`` means nothing there.
    """
    if not isinstance(document, dict):
        faults.append(Fault(path=path, message=f"a step must be an object, not {kind(document)}"))
        return None
    what = "a step of on_failure" if is_late else "a step"
    refuse_unknown(document, _LATE_KEYS if is_late else _KEYS, path, what, faults)
    _refuse_both(document, path, faults)
    id_ = _id(document, path, faults)
    work = _work(document, path, faults)
    step: dict[str, Any] = {
        "needs": names(_either(document, "needs"), below(path, "needs"), faults),
        "condition": _condition(_either(document, "if"), below(path, "if"), faults),
        "compensate": _compensation(document.get("compensate"), below(path, "compensate"), faults),
        **_policy(document, work.type, path, faults),
    }
    return Step(id=id_, work=work, **step) if id_ else None


def _either(document: JsonObject, key: str) -> Json:
    return document.get(key, document.get(_ALIASES[key]))


def _refuse_both(document: JsonObject, path: str, faults: list[Fault]) -> None:
    for key, alias in _ALIASES.items():
        if key in document and alias in document:
            faults.append(Fault(path=below(path, alias), message=f"{alias!r} means {key!r}; give one of them"))


def _id(document: JsonObject, path: str, faults: list[Fault]) -> str | None:
    value = document.get("id")
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    if value is None:
        faults.append(Fault(path=path, message="a step needs an id"))
    else:
        message = (
            f"{str(value)[:60]!r} is not a step id: letters, digits, _ and -, at most 64, not starting with a digit"
        )
        faults.append(Fault(path=below(path, "id"), message=message))
    return None


def _work(document: JsonObject, path: str, faults: list[Fault]) -> Work:
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
    is_program = type_ == COMMAND and not given.keys().isdisjoint(("run", "argv"))
    if is_program:
        faults += _pasted_faults(given.get("run"), below(path, "with.run"))
    return Work(
        type=type_ if isinstance(type_, str) else COMMAND,
        payload=_template(given, below(path, "with"), faults),
        is_program=is_program,
    )


def _run(document: JsonObject, given: JsonObject, path: str, faults: list[Fault]) -> Work:
    command, variables = document["run"], mapping(document, "env", path, faults)
    if "type" in document:
        faults.append(Fault(path=below(path, "run"), message="give type: or run:, not both"))
    if not isinstance(command, str) or not command.strip():
        faults.append(Fault(path=below(path, "run"), message="must be the text of a shell command"))
    pasted = list(_pasted_faults(command, below(path, "run")))
    faults += [*pasted, *_variable_faults(variables, below(path, "env"))]
    _template(given, below(path, "with"), faults)
    _template(variables, below(path, "env"), faults)
    payload: JsonObject = {"run": "" if pasted else command}
    if variables:
        payload["env"] = variables
    if given:
        payload["input"] = given
    return Work(type=COMMAND, payload=_template(payload, path, []), is_program=True)


def _pasted_faults(command: Json, path: str) -> Iterator[Fault]:
    if has_expression(command):
        message = 'holds an expression, whose value the shell would read as code; put it under env: and use "$NAME"'
        yield Fault(path=path, message=message)


def _variable_faults(variables: JsonObject, path: str) -> Iterator[Fault]:
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            message = f"{name[:60]!r} cannot be set: letters, digits and _, and not QW_… or LD_…"
            yield Fault(path=f"{path}.{name}", message=message)
        elif isinstance(value, (dict, list)):
            yield Fault(path=f"{path}.{name}", message=f"must be one value, not {kind(value)}")


def _template(value: Json, path: str, faults: list[Fault]) -> Template:
    try:
        return Template.parse(value, where=path)
    except ExpressionError as error:
        faults += error.faults
        return Template(root={})


def _condition(value: Json, path: str, faults: list[Fault]) -> Condition | None:
    if value is None:
        return None
    if not isinstance(value, (str, bool)):
        faults.append(Fault(path=path, message=f"must be an expression, not {kind(value)}"))
        return None
    source = value if isinstance(value, str) else str(value).lower()
    try:
        return Condition.parse(source)
    except ExpressionError as error:
        faults += [Fault(path=path, message=fault.message) for fault in error.faults]
        return None


def _compensation(document: Json, path: str, faults: list[Fault]) -> Work | None:
    if document is None:
        return None
    if not isinstance(document, dict):
        faults.append(Fault(path=path, message=f"must be an object with type: and with:, not {kind(document)}"))
        return None
    refuse_unknown(document, _WORK_KEYS, path, "compensate", faults)
    work = _work(document, path, faults)
    faults += _storable_faults(NewTask(type=work.type, id=_NO_ID), path)
    return work


def _policy(document: JsonObject, type_: str, path: str, faults: list[Fault]) -> dict[str, Any]:
    retry, retry_path = mapping(document, "retry", path, faults), below(path, "retry")
    refuse_unknown(retry, _RETRY_KEYS, retry_path, "retry", faults)
    policy: dict[str, Any] = {
        "max_retries": retry.get("max_retries"),
        "timeout": _duration(document, "timeout", path, faults),
        "queue": document.get("queue", DEFAULT_QUEUE),
        "priority": document.get("priority", DEFAULT_PRIORITY),
    }
    faults += _storable_faults(NewTask(type=type_, id=_NO_ID, **policy), path)
    return {**policy, "backoff": _backoff(retry, retry_path, faults)}


_NO_ID = UUID(int=0)


def _storable_faults(task: NewTask, path: str) -> Iterator[Fault]:
    """What the store would refuse about the task that a step makes: one place has these rules."""
    try:
        check_new(task)
    except Invalid as error:
        for fault in error.faults:
            place = "retry.max_retries" if fault.path == "max_retries" else fault.path
            yield Fault(path=below(path, place), message=fault.message)


def _backoff(retry: JsonObject, path: str, faults: list[Fault]) -> Backoff | None:
    if retry.keys() <= {"max_retries"}:
        return None
    usual = Backoff()
    delay, max_delay = (_duration(retry, key, path, faults) for key in ("delay", "max_delay"))
    factor = retry.get("backoff", usual.factor)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 <= factor <= 1000:
        faults.append(Fault(path=below(path, "backoff"), message=f"must be a number from 1 to 1000, not {factor!r}"))
        factor = usual.factor
    return Backoff(
        delay=usual.delay if delay is None else delay,
        factor=float(factor),
        max_delay=usual.max_delay if max_delay is None else max_delay,
        retry_on=names(retry.get("retry_on"), below(path, "retry_on"), faults),
        give_up_on=names(retry.get("give_up_on"), below(path, "give_up_on"), faults),
    )


def _duration(document: JsonObject, key: str, path: str, faults: list[Fault]) -> timedelta | None:
    value = document.get(key)
    if value is None:
        return None
    try:
        return parse_duration(value)
    except Invalid as error:
        faults += [Fault(path=below(path, key), message=fault.message) for fault in error.faults]
        return None
