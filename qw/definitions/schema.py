"""The JSON Schema of definition files, for editors: keys, descriptions and allowed values.

It is weaker than `loads`, which also checks step references, cycles and expressions; what it rejects, `loads` rejects.
"""

from __future__ import annotations

from collections.abc import Iterable

from qw.core.schedule import Misfire, Overlap
from qw.core.task.command import SHELLS, StdoutFormat
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import MAX_STEPS
from qw.core.workflow.concurrency import OnLimit
from qw.core.workflow.defaults import DEFAULT_KEYS
from qw.core.workflow.foreach import MAX_ITEMS
from qw.core.workflow.inputs import TYPES
from qw.core.workflow.join import RunIf
from qw.core.workflow.repeat import MAX_FACTOR, MAX_ROUNDS
from qw.core.workflow.step_kinds import StepKind
from qw.core.workflow.switch import MAX_CASES
from qw.core.workflow.task_template import WORK_KEYS

EDITOR_LINE = "# yaml-language-server: $schema="

_NAME = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
_ANYTHING: JsonObject = {}
_TEXT: JsonObject = {"type": "string"}
_OBJECT: JsonObject = {"type": "object"}
_TYPES = [kind for kind in StepKind if kind not in (StepKind.TASK, StepKind.SWITCH)]
_FLAG: JsonObject = {"type": ["boolean", "null"]}


def editor_line(place: str) -> str:
    """The first line of a definition file, which tells editors where the schema is."""
    return f"{EDITOR_LINE}{place}"


def schema() -> JsonObject:
    """The schema, in JSON Schema draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qw: workflows, schedules, queues, commands, webhooks",
        **_closed(
            {
                "version": {"const": 1},
                "owner": _about(
                    "Owner: the name of this set of files",
                    {"type": ["string", "null"], "minLength": 1, "maxLength": 200},
                ),
                "include": _about(
                    "Files whose definitions belong to this set, in this directory or below", {"$ref": "#/$defs/names"}
                ),
                "defaults": _about("Defaults of the steps in this file", {"$ref": "#/$defs/defaults"}),
                "templates": _about("Steps with parameters, by name", _named({"$ref": "#/$defs/template"})),
                "secrets": _about("Secrets of the workflows in this file", {"$ref": "#/$defs/secrets"}),
                "workflows": _named({"$ref": "#/$defs/workflow"}),
                "schedules": _named({"$ref": "#/$defs/schedule"}),
                "queues": {"type": "object", "additionalProperties": {"$ref": "#/$defs/queue"}},
                "commands": _named({"$ref": "#/$defs/command"}),
                "tests": {"type": "object", "additionalProperties": _test()},
                "webhooks": _named({"$ref": "#/$defs/webhook"}),
                "remote": {"type": "object", "additionalProperties": {"$ref": "#/$defs/remote"}},
            }
        ),
        "$defs": {
            "duration": _about(
                "A duration: 30s, 5m, 2h, 1d, PT5M, or a number of seconds", {"type": ["string", "number", "null"]}
            ),
            "names": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "null"}]},
            "retry": _retry(),
            "compensation": _compensation(),
            "step": _step(),
            "late": _late(),
            "input": _input(),
            "concurrency": _concurrency(),
            "secrets": _secrets(),
            "defaults": _defaults(),
            "template": _template(),
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
            "input": _about("Inputs of a run, by name", _named({"$ref": "#/$defs/input"}, nullable=True)),
            "secrets": _about("Secrets of the steps, by name", {"$ref": "#/$defs/secrets"}),
            "defaults": _about("Defaults of the steps", {"$ref": "#/$defs/defaults"}),
            "outputs": _about("Outputs of a run, by name: expressions over its steps", _OBJECT),
            "timeout": _duration("Maximum duration of a run"),
            "max_parallel": _about(
                "Maximum number of steps of a run that are active at a time",
                {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_STEPS},
            ),
            "concurrency": {"$ref": "#/$defs/concurrency"},
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}, "minItems": 1, "maxItems": MAX_STEPS},
            "on_failure": _about("Steps run one after another if the run fails", late),
            "finally": _about("Steps run one after another at the end of every run, whatever its outcome", late),
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
        "Condition (an expression); if false, the step is skipped", {"type": ["string", "boolean", "null"]}
    )
    return {
        "id": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"},
        "type": _about(f"A task type, or one of {', '.join(_TYPES)}", _TEXT),
        "run": _about("Shell script; pass values through env", _TEXT),
        "shell": _shell(),
        "with": _about("Payload; may contain expressions: ${{ … }}", {"type": ["object", "null"]}),
        "env": _about("Environment variables of run", {"type": ["object", "null"]}),
        "cwd": _about("Working directory of run; $QW_ARTIFACTS: the run's folder", {"type": ["string", "null"]}),
        "stdin": _about("Standard input of run: text, or JSON; may be an expression", _ANYTHING),
        "user": _about(
            "System user of run; other than the daemon's only if that is root", {"type": ["string", "null"]}
        ),
        "output": _about("What stdout becomes in the result", {"enum": [*StdoutFormat, None]}),
        "artifacts": _about(
            "Files or directories that run leaves, kept for later steps of the run: paths by name",
            {"type": ["object", "null"], "additionalProperties": _TEXT},
        ),
        "if": condition,
        "when": condition,
        "retry": {"$ref": "#/$defs/retry"},
        "timeout": _duration("Maximum duration of an attempt, or of a wait"),
        "template": _about("Name of the template that this step is made from", _TEXT),
        "params": _about("Values of the parameters of the template", {"type": ["object", "null"]}),
        "repeat": _repeat(),
        "queue": _TEXT,
        "priority": _about("Priority from 0 to 9; lower runs first", {"type": "integer", "minimum": 0, "maximum": 9}),
    }


def _shell() -> JsonObject:
    program: JsonObject = {"type": "array", "items": _TEXT, "minItems": 1}
    return _about(
        "Interpreter of run: a shell, or a program with arguments (a list) that is given the script file",
        {"anyOf": [{"enum": [*SHELLS, None]}, program]},
    )


def _step() -> JsonObject:
    return _closed(_step_keys(), required=["id"])


def _step_keys() -> JsonObject:
    needs: JsonObject = {"$ref": "#/$defs/names"}
    return {
        **_shared(),
        "needs": needs,
        "depends": needs,
        "run_if": _about("Outcome of the needed steps for which this step starts", {"enum": [*RunIf, None]}),
        "switch": _switch(),
        "continue_on_error": _about(
            "If the step fails (with one of these kinds of errors), the run continues as if it had not",
            {"type": ["boolean", "array"], "items": _TEXT, "minItems": 1},
        ),
        "compensate": _about("Undoes the step if the run fails later", {"$ref": "#/$defs/compensation"}),
        "foreach": _about("Run the step once for each item of this list", {"type": ["array", "string", "null"]}),
        "matrix": _matrix(),
        "max_parallel": {"type": "integer", "minimum": 1, "maximum": MAX_ITEMS},
    }


def _repeat() -> JsonObject:
    condition: JsonObject = {"type": ["string", "boolean"]}
    return _about(
        "Repeat the step, round after round",
        _closed(
            {
                "until": _about("Condition after each round; if true, the step is completed", condition),
                "while": _about("Condition before each round; if false, the step is completed", condition),
                "delay": _duration("Time between two rounds"),
                "backoff": _about(
                    "Factor by which the delay grows with each round",
                    {"type": "number", "minimum": 1, "maximum": MAX_FACTOR},
                ),
                "max_delay": _duration("Maximum delay"),
                "max": _about("Maximum number of rounds", {"type": "integer", "minimum": 1, "maximum": MAX_ROUNDS}),
                "timeout": _duration("Time after which no further round starts"),
            },
            nullable=True,
        ),
    )


def _test() -> JsonObject:
    expected = _closed(
        {
            "status": {"enum": ["completed", "failed", "cancelled", "running"]},
            "error": _about("A part of the error of the run", _TEXT),
            "steps": _about("Statuses of steps, by their ids", {"type": "object", "additionalProperties": _TEXT}),
        }
    )
    result = _closed({"result": _ANYTHING}, required=["result"])
    assumed: JsonObject = {"type": "object", "additionalProperties": {"anyOf": [_TEXT, result]}}
    return _about(
        "A test of a workflow, which runs nothing",
        _closed(
            {"workflow": _TEXT, "input": _OBJECT, "assume": assumed, "expect": expected},
            required=["workflow", "expect"],
        ),
    )


def _switch() -> JsonObject:
    steps: JsonObject = {"$ref": "#/$defs/names"}
    condition: JsonObject = {"type": ["string", "boolean"]}
    cases: JsonObject = {
        "anyOf": [
            _closed({"if": condition, "then": steps}, required=["if", "then"]),
            _closed({"when": condition, "then": steps}, required=["when", "then"]),
            _closed({"else": steps}, required=["else"]),
        ]
    }
    return _about(
        "Cases that name steps: those of the first case that holds run, the steps of all other cases are skipped",
        {"type": "array", "minItems": 1, "maxItems": MAX_CASES, "items": cases},
    )


def _matrix() -> JsonObject:
    axis: JsonObject = {"type": ["array", "string"]}
    entries: JsonObject = {"type": ["array", "string"], "items": _OBJECT}
    return _about(
        "Run the step once for each combination of the values of these lists",
        {
            "type": ["object", "string", "null"],
            "minProperties": 1,
            "properties": {
                "exclude": _about("Removes the combinations that have all values of an entry", entries),
                "include": _about("Adds values to matching combinations, or else new combinations", entries),
            },
            "additionalProperties": axis,
        },
    )


def _late() -> JsonObject:
    return _closed(_shared(), required=["id"])


def _compensation() -> JsonObject:
    shared = _shared()
    keys = _closed({key: shared[key] for key in (*WORK_KEYS, "retry", "timeout")})
    return {"anyOf": [keys, {"type": "null"}]}


def _retry() -> JsonObject:
    return _closed(
        {
            "max_retries": _about(
                "Maximum number of attempts, including the first", {"type": ["integer", "null"], "minimum": 1}
            ),
            "delay": _duration("Delay before the second attempt"),
            "backoff": _about(
                "Factor by which the delay grows with each attempt", {"type": "number", "minimum": 1, "maximum": 1000}
            ),
            "max_delay": _duration("Maximum delay between attempts"),
            "on": _about(
                "Kinds of errors to retry, such as timeout, exit:75, http:5xx, or exception classes; default: all",
                {"$ref": "#/$defs/names"},
            ),
            "retry_on": _about("The same as on", {"$ref": "#/$defs/names"}),
            "give_up_on": _about("Kinds of errors not to retry; takes precedence", {"$ref": "#/$defs/names"}),
        },
        nullable=True,
    )


def _input() -> JsonObject:
    type_: JsonObject = {"enum": list(TYPES)}
    return {"anyOf": [type_, _closed({"type": type_, "default": _ANYTHING, "description": _TEXT})]}


def _defaults() -> JsonObject:
    shared = _shared()
    return _closed({key: shared[key] for key in DEFAULT_KEYS}, nullable=True)


def _template() -> JsonObject:
    step = _step_keys()
    del step["id"], step["template"]
    return _closed({**step, "params": _about("Parameters of the template", _named({"$ref": "#/$defs/input"}))})


def _secrets() -> JsonObject:
    file: JsonObject = {"type": "string", "pattern": "^/"}
    sources: JsonObject = {
        "env": _about("Environment variable of the daemon", _TEXT),
        "file": _about("File that the daemon can read", file),
    }
    one = {**_closed(sources), "minProperties": 1, "maxProperties": 1}
    return {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$"},
        "additionalProperties": one,
    }


def _concurrency() -> JsonObject:
    return _closed(
        {
            "key": _about("Concurrency group: runs with the same value share the limit", _ANYTHING),
            "limit": {"type": "integer", "minimum": 1},
            "on_limit": {"enum": list(OnLimit)},
        },
        nullable=True,
    )


_RUN_OF_SCHEDULE = ("shell", "env", "cwd", "stdin", "user", "output")


def _schedule() -> JsonObject:
    shared = _shared()
    return _closed(
        {
            "cron": _TEXT,
            "seconds": _FLAG,
            "every": _duration("Interval between ticks"),
            "at": _about("Time of a single tick", _TEXT),
            "timezone": _TEXT,
            "workflow": _TEXT,
            **{key: shared[key] for key in ("type", "run", *_RUN_OF_SCHEDULE, "with", "queue", "priority", "timeout")},
            "max_retries": {"type": ["integer", "null"], "minimum": 1},
            "misfire": {"enum": list(Misfire)},
            "window": _duration("Maximum lateness at which a missed tick still fires"),
            "cap": {"type": "integer", "minimum": 1},
            "overlap": {"enum": list(Overlap)},
            "jitter": _duration("Maximum random delay of a tick"),
            "start": {"type": ["string", "null"]},
            "end": {"type": ["string", "null"]},
            "paused": {"type": "boolean"},
            "description": _TEXT,
        }
    )


def _queue() -> JsonObject:
    paused = _about("If true, no tasks are claimed from the queue; omitted: the current state is kept", _FLAG)
    count: JsonObject = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
    rate: JsonObject = {"type": "string", "pattern": r"^\d+\s*/\s*\S+$"}
    return _closed(
        {
            "paused": paused,
            "concurrency": _about("Maximum number of tasks running at once", count),
            "rate": _about("Maximum number of tasks started per interval: 100/m, 5/s, 10/30s", rate),
            "key": _about(
                "Payload path, such as payload.customerId; per_key and per_key_rate apply to each of its values",
                {"type": "string", "pattern": "^payload\\."},
            ),
            "per_key": _about("Maximum number of tasks running at once for each key value", count),
            "per_key_rate": _about("Maximum number of tasks started per interval for each key value", rate),
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
            "user": _TEXT,
            "env": {"type": "object", "additionalProperties": _TEXT},
            "timeout": _duration("Maximum duration of an attempt"),
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
                "Environment variable of the daemons with the signing key; NAME_FILE may name a file instead", _TEXT
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
            "timeout": _duration("Maximum duration of an attempt"),
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
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }
