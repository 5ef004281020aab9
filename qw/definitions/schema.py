"""The JSON Schema of a file of definitions, for editors: what keys there are, what they mean, and what they may hold.

It cannot say all that `loads` checks (names of steps, cycles, expressions); what it refuses, `loads` refuses too.
"""

from __future__ import annotations

from collections.abc import Iterable

from qw.core.schedule import Misfire, Overlap
from qw.core.task.command import SHELLS
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import MAX_STEPS
from qw.core.workflow.concurrency import OnLimit
from qw.core.workflow.foreach import MAX_ITEMS
from qw.core.workflow.inputs import TYPES
from qw.core.workflow.join import RunIf
from qw.core.workflow.step_kinds import StepKind

EDITOR_LINE = "# yaml-language-server: $schema="

_NAME = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
_ANYTHING: JsonObject = {}
_TEXT: JsonObject = {"type": "string"}
_OBJECT: JsonObject = {"type": "object"}
_FLAG: JsonObject = {"type": ["boolean", "null"]}


def editor_line(place: str) -> str:
    """The first line of a file that tells editors where its schema is."""
    return f"{EDITOR_LINE}{place}"


def schema() -> JsonObject:
    """Draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qw: workflows, schedules, queues, commands, webhooks",
        **_closed(
            {
                "version": {"const": 1},
                "owner": _about(
                    "The name of this set of files", {"type": ["string", "null"], "minLength": 1, "maxLength": 200}
                ),
                "workflows": _named({"$ref": "#/$defs/workflow"}),
                "schedules": _named({"$ref": "#/$defs/schedule"}),
                "queues": {"type": "object", "additionalProperties": {"$ref": "#/$defs/queue"}},
                "commands": _named({"$ref": "#/$defs/command"}),
                "webhooks": _named({"$ref": "#/$defs/webhook"}),
                "remote": {"type": "object", "additionalProperties": {"$ref": "#/$defs/remote"}},
            }
        ),
        "$defs": {
            "duration": _about("Such as 30s, 5m, 2h, 1d, PT5M, or seconds", {"type": ["string", "number", "null"]}),
            "names": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "null"}]},
            "retry": _retry(),
            "compensation": _compensation(),
            "step": _step(),
            "late": _late(),
            "input": _input(),
            "concurrency": _concurrency(),
            "workflow": _workflow(),
            "schedule": _schedule(),
            "queue": _queue(),
            "command": _command(),
            "webhook": _webhook(),
            "remote": _remote(),
        },
    }


def _workflow() -> JsonObject:
    late: JsonObject = {"type": ["array", "null"], "items": {"$ref": "#/$defs/late"}, "maxItems": MAX_STEPS}
    qw: JsonObject = _closed(
        {
            "description": _TEXT,
            "input": _about("What a start is asked for: name: type", _named({"$ref": "#/$defs/input"}, nullable=True)),
            "outputs": _about("What a run comes to; expressions over its steps", _OBJECT),
            "timeout": _duration("The longest that a run may take"),
            "concurrency": {"$ref": "#/$defs/concurrency"},
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}, "minItems": 1, "maxItems": MAX_STEPS},
            "on_failure": _about("Steps that run one by one after a failure", late),
            "finally": _about("Steps that run one by one at the end, however it ends", late),
        },
        required=["steps"],
    )
    task = _closed({"type": _TEXT, "payload": {"type": ["object", "null"]}}, required=["type"])
    chain: JsonObject = _closed(
        {"initialTask": task, "transitions": {"type": "object", "additionalProperties": task}, "description": _TEXT},
        required=["initialTask"],
    )
    return {"if": {"required": ["initialTask"]}, "then": chain, "else": qw}


def _shared() -> JsonObject:
    condition: JsonObject = _about(
        "An expression; the step is skipped where it is false", {"type": ["string", "boolean", "null"]}
    )
    return {
        "id": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"},
        "type": _about(
            f"A handler's type, or one of {', '.join(kind for kind in StepKind if kind is not StepKind.TASK)}", _TEXT
        ),
        "run": _about("Text for the shell; values come by env: only", _TEXT),
        "shell": _shell(),
        "with": _about("The payload; ${{ }} holds expressions", {"type": ["object", "null"]}),
        "env": _about("Variables of run:", {"type": ["object", "null"]}),
        "if": condition,
        "when": condition,
        "retry": {"$ref": "#/$defs/retry"},
        "timeout": _duration("Of an attempt; of a wait"),
        "queue": _TEXT,
        "priority": _about("Lower runs first", {"type": "integer", "minimum": 0, "maximum": 9}),
    }


def _shell() -> JsonObject:
    program: JsonObject = {"type": "array", "items": _TEXT, "minItems": 1}
    return _about(
        "What reads run:; a list: a program, which gets its file", {"anyOf": [{"enum": [*SHELLS, None]}, program]}
    )


def _step() -> JsonObject:
    needs: JsonObject = {"$ref": "#/$defs/names"}
    return _closed(
        {
            **_shared(),
            "needs": needs,
            "depends": needs,
            "run_if": _about("When it starts, in regard to what it needs", {"enum": [*RunIf, None]}),
            "continue_on_error": _about("What needs it goes on although it failed", {"type": "boolean"}),
            "compensate": _about("Undoes the step when the run fails later", {"$ref": "#/$defs/compensation"}),
            "foreach": _about("Once for each item of a list", {"type": ["array", "string", "null"]}),
            "matrix": _matrix(),
            "max_parallel": {"type": "integer", "minimum": 1, "maximum": MAX_ITEMS},
        },
        required=["id"],
    )


def _matrix() -> JsonObject:
    axis: JsonObject = {"type": ["array", "string"]}
    entries: JsonObject = {"type": ["array", "string"], "items": _OBJECT}
    return _about(
        "Once for each combination of lists",
        {
            "type": ["object", "null"],
            "minProperties": 1,
            "properties": {
                "exclude": _about("Takes away the combinations that have all of these values", entries),
                "include": _about("Adds values to combinations that it fits, or combinations of its own", entries),
            },
            "additionalProperties": axis,
        },
    )


def _late() -> JsonObject:
    return _closed(_shared(), required=["id"])


def _compensation() -> JsonObject:
    shared = _shared()
    keys = _closed({key: shared[key] for key in ("type", "run", "shell", "with", "env", "retry", "timeout")})
    return {"anyOf": [keys, {"type": "null"}]}


def _retry() -> JsonObject:
    return _closed(
        {
            "max_retries": _about("Attempts in all", {"type": ["integer", "null"], "minimum": 1}),
            "delay": _duration("Before the second attempt"),
            "backoff": _about("The delay grows by this factor", {"type": "number", "minimum": 1, "maximum": 1000}),
            "max_delay": _duration("The longest delay"),
            "retry_on": {"$ref": "#/$defs/names"},
            "give_up_on": {"$ref": "#/$defs/names"},
        },
        nullable=True,
    )


def _input() -> JsonObject:
    type_: JsonObject = {"enum": list(TYPES)}
    return {"anyOf": [type_, _closed({"type": type_, "default": _ANYTHING, "description": _TEXT})]}


def _concurrency() -> JsonObject:
    return _closed(
        {
            "key": _about("Runs with the same value are limited together", _ANYTHING),
            "limit": {"type": "integer", "minimum": 1},
            "on_limit": {"enum": list(OnLimit)},
        },
        nullable=True,
    )


def _schedule() -> JsonObject:
    shared = _shared()
    return _closed(
        {
            "cron": _TEXT,
            "seconds": _FLAG,
            "every": _duration("From tick to tick"),
            "at": _about("Once, at this time", _TEXT),
            "timezone": _TEXT,
            "workflow": _TEXT,
            **{key: shared[key] for key in ("type", "run", "shell", "with", "env", "queue", "priority", "timeout")},
            "max_retries": {"type": ["integer", "null"], "minimum": 1},
            "misfire": {"enum": list(Misfire)},
            "window": _duration("How late a tick may still fire"),
            "cap": {"type": "integer", "minimum": 1},
            "overlap": {"enum": list(Overlap)},
            "jitter": _duration("At most so much later, by chance"),
            "start": {"type": ["string", "null"]},
            "end": {"type": ["string", "null"]},
            "paused": {"type": "boolean"},
            "description": _TEXT,
        }
    )


def _queue() -> JsonObject:
    paused = _about("Nothing is claimed from it; left out: as operators left it", _FLAG)
    count: JsonObject = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
    rate: JsonObject = {"type": "string", "pattern": r"^\d+\s*/\s*\S+$"}
    return _closed(
        {
            "paused": paused,
            "concurrency": _about("How many of its tasks may go on at once", count),
            "rate": _about("How many may begin in a time: 100/m, 5/s, 10/30s", rate),
            "key": _about(
                "A path into the payload; what follows is for each of its values",
                {"type": "string", "pattern": "^payload\\."},
            ),
            "per_key": _about("How many of one value of the key may go on at once", count),
            "per_key_rate": _about("How many of one value of the key may begin in a time", rate),
        },
        nullable=True,
    )


def _command() -> JsonObject:
    return _closed(
        {
            "argv": {"type": "array", "items": _TEXT, "minItems": 1},
            "run": _TEXT,
            "shell": _shell(),
            "cwd": _TEXT,
            "env": {"type": "object", "additionalProperties": _TEXT},
            "timeout": _duration("Of an attempt"),
            "exit_codes": {"type": "object", "additionalProperties": {"enum": ["done", "retry", "reject", "fail"]}},
            "description": _TEXT,
            "background": {"enum": ["end", "keep"]},
        }
    )


def _webhook() -> JsonObject:
    return _closed(
        {
            "url": {"type": "string", "pattern": "^https?://"},
            "events": {"$ref": "#/$defs/names"},
            "types": {"$ref": "#/$defs/names"},
            "queues": {"$ref": "#/$defs/names"},
            "headers": {"type": "object", "additionalProperties": _TEXT},
            "secret_env": _about(
                "The variable of the daemons that has the key of the signature, or as NAME_FILE its file", _TEXT
            ),
            "max_retries": {"type": "integer", "minimum": 1, "maximum": 100},
            "description": _TEXT,
        },
        required=["url"],
    )


def _remote() -> JsonObject:
    return _closed(
        {
            "queue": _TEXT,
            "url": {"type": "string", "pattern": "^https?://"},
            "timeout": _duration("Of an attempt"),
            "max_retries": {"type": "integer", "minimum": 1},
            "description": _TEXT,
        }
    )


def _duration(description: str) -> JsonObject:
    return _about(description, {"$ref": "#/$defs/duration"})


def _about(description: str, below: JsonObject) -> JsonObject:
    return {"description": description, **below}


def _named(below: JsonObject, *, nullable: bool = False) -> JsonObject:
    kinds: Json = ["object", "null"] if nullable else "object"
    return {"type": kinds, "propertyNames": {"pattern": _NAME}, "additionalProperties": below}


def _closed(properties: JsonObject, *, required: Iterable[str] = (), nullable: bool = False) -> JsonObject:
    kinds: Json = ["object", "null"] if nullable else "object"
    return {
        "type": kinds,
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }
