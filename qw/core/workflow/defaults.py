"""``defaults:``: values of step keys for all steps of a workflow that do not set them."""

from __future__ import annotations

from qw.core.errors import Fault
from qw.core.fields import Field, Object, Type
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.step import STEP, parse_step
from qw.core.workflow.step_kinds import KINDS

DEFAULTS = Object(
    "defaults",
    {key: STEP.fields[key] for key in ("retry", "timeout", "shell", "env", "cwd", "queue")},
    ref="defaults",
)
_MERGED = ("retry", "env")  # objects in which a step may override single keys

_RUN_KEYS = ("shell", "env", "cwd")  # apply to steps with ``run:`` only
_NOT_OF_COMPENSATION = ("queue",)


def _defaults(value: Json, path: str, faults: list[Fault]) -> JsonObject | None:
    """Return the value of ``defaults:`` if its keys are valid in a step, else None."""
    found: list[Fault] = []
    DEFAULTS.read(value, path, found)
    known = {key: value[key] for key in DEFAULTS.fields if key in value} if isinstance(value, dict) else {}
    parse_step({"id": "step", "run": "true", **known}, path, found)
    faults += dict.fromkeys(found)
    return None if found else known


DEFAULTS_FIELD = Field(Type(_defaults, DEFAULTS.schema), "Defaults of the steps", default={})


def with_defaults(step: Json, defaults: JsonObject) -> Json:
    """Return the document of a step, or of a compensation, with missing keys taken from *defaults*."""
    if not isinstance(step, dict) or not defaults or not _is_task(step):
        return step
    meant = {key: value for key, value in defaults.items() if _applies(key, step)}
    changed = {key: merged(key, value, step.get(key)) for key, value in meant.items()}
    undo = step.get("compensate")
    if isinstance(undo, dict):
        others = {key: value for key, value in defaults.items() if key not in _NOT_OF_COMPENSATION}
        changed["compensate"] = with_defaults(undo, others)
    return {**step, **changed}


def _is_task(step: JsonObject) -> bool:
    return "switch" not in step and str(step.get("type")) not in KINDS


def _applies(key: str, step: JsonObject) -> bool:
    if key in _RUN_KEYS and "run" not in step:
        return False
    return not (key == "shell" and str(step["run"]).startswith("#!"))


def merged(key: str, default: Json, own: Json) -> Json:
    """Return *own*, or *default* if it is None; for some keys, both objects are merged."""
    if key in _MERGED and isinstance(default, dict) and isinstance(own, dict):
        return {**default, **own}
    return default if own is None else own
