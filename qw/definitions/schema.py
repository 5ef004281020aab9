"""The keys of a definition file, and its JSON Schema, which is made from the same fields that parse the file.

The schema is weaker than `loads`, which also checks step references, cycles and expressions. Everything that the
schema rejects, `loads` rejects too.
"""

from __future__ import annotations

import re
from typing import Any

from qw.core.fields import DURATION_SCHEMA, NAMES, NAMES_SCHEMA, OBJECT, TEXT, Field, Object, Type, as_is, checked
from qw.core.parsing import NAME
from qw.core.schedule.document import SCHEDULE
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.concurrency import CONCURRENCY
from qw.core.workflow.defaults import DEFAULTS
from qw.core.workflow.inputs import INPUT_SCHEMA
from qw.core.workflow.repeat import REPEAT
from qw.core.workflow.retry_policy import RETRY
from qw.core.workflow.secrets import SECRET, SECRETS_FIELD
from qw.core.workflow.step import COMPENSATION, LATE_STEP, STEP
from qw.core.workflow.step_template import TEMPLATE
from qw.core.workflow.transitions import CHAIN
from qw.core.workflow.workflow import WORKFLOW
from qw.definitions.commands import COMMAND
from qw.definitions.queues import QUEUE
from qw.definitions.remotes import REMOTE
from qw.definitions.tests import TEST
from qw.definitions.webhooks import WEBHOOK

EDITOR_LINE = "# yaml-language-server: $schema="
MAX_OWNER = 200


def editor_line(place: str) -> str:
    """Return the first line of a definition file, which tells editors where the schema is."""
    return f"{EDITOR_LINE}{place}"


def _owner(value: Json) -> str:
    return f"must be a name of 1 to {MAX_OWNER} characters, not {str(value)[:60]!r}"


def _section(ref: str, about: str, name: re.Pattern[str] | None = None, *, empty: bool = False) -> Field:
    named: JsonObject = {"propertyNames": {"pattern": f"^({name.pattern})$"}} if name else {}
    one: JsonObject = {"$ref": f"#/$defs/{ref}"}
    if empty:
        one = {"anyOf": [one, {"type": "null"}]}
    definitions: JsonObject = {"type": "object", **named, "additionalProperties": one}
    return Field(Type(OBJECT.read, definitions), about, default={})


_TEMPLATE_FIELDS = {
    "template": Field(as_is(TEXT.schema), "Name of the step template to use", null=False),
    "params": Field(as_is(OBJECT.schema), "Values of the parameters of the template"),
}
FILE = Object(
    "a file of definitions",
    {
        "version": Field(
            checked(
                {"const": 1}, lambda value: type(value) is int and value == 1, lambda value: "this qw reads version 1"
            ),
            "Version of this format",
            null=False,
        ),
        "owner": Field(
            checked(
                {"type": "string", "minLength": 1, "maxLength": MAX_OWNER},
                lambda value: isinstance(value, str) and bool(value.strip()) and len(value) <= MAX_OWNER,
                _owner,
            ),
            "Owner: the name of this set of files",
        ),
        "include": Field(as_is(NAMES.schema), "Files whose definitions belong to this set, in this directory or below"),
        "defaults": Field(as_is(DEFAULTS.schema), "Defaults of the steps in this file"),
        "templates": Field(as_is(_section("template", "").type.schema), "Steps with parameters, by name"),
        "secrets": Field(as_is(SECRETS_FIELD.type.schema), "Secrets of the workflows in this file"),
        "workflows": _section("workflow", "Workflows", NAME),
        "schedules": _section("schedule", "Schedules", NAME),
        "queues": _section("queue", "Limits and pauses of queues", empty=True),
        "commands": _section("command", "Programs that tasks run", NAME),
        "webhooks": _section("webhook", "Receivers of events over HTTP", NAME),
        "remote": _section("remote", "Task types run by remote workers", empty=True),
        "tests": _section("test", "Tests of the workflows; no step is executed"),
    },
)
OBJECTS = {
    "workflow": WORKFLOW,
    "step": Object("a step", {**STEP.fields, **_TEMPLATE_FIELDS}),
    "late": Object("a step", {**LATE_STEP.fields, **_TEMPLATE_FIELDS}),
    "compensation": COMPENSATION,
    "retry": RETRY,
    "repeat": REPEAT,
    "concurrency": CONCURRENCY,
    "defaults": DEFAULTS,
    "template": TEMPLATE,
    "secret": SECRET,
    "schedule": SCHEDULE,
    "queue": QUEUE,
    "command": COMMAND,
    "webhook": WEBHOOK,
    "remote": REMOTE,
    "test": TEST,
}


_EXPRESSION: JsonObject = {"type": "string", "pattern": r"\$\{\{"}


def _in_template(rules: Any) -> JsonObject:
    """Return *rules* for templates, in which every value may be an expression instead."""
    if "$ref" in rules:
        described = OBJECTS.get(rules["$ref"].rpartition("/")[2])
        return _in_template(described.definition) if described else rules
    if "anyOf" in rules:
        return {**rules, "anyOf": [_in_template(rule) for rule in rules["anyOf"]]}
    properties: JsonObject = {
        key: {"anyOf": [_in_template(rule), _EXPRESSION]} for key, rule in rules.get("properties", {}).items()
    }
    return {**rules, "properties": properties} if properties else rules


def schema() -> JsonObject:
    """Return the schema, in JSON Schema draft 2020-12."""
    definitions = {ref: described.definition for ref, described in OBJECTS.items()}
    chain: JsonObject = {"if": {"required": ["initialTask"]}, "then": CHAIN.definition, "else": WORKFLOW.definition}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qw: workflows, schedules, queues, commands, webhooks",
        **FILE.definition,
        "$defs": {
            **definitions,
            "template": _in_template(OBJECTS["template"].definition),
            "workflow": chain,
            "duration": DURATION_SCHEMA,
            "names": NAMES_SCHEMA,
            "input": INPUT_SCHEMA,
        },
    }
