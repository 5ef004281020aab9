"""Example values of the fields of responses, from which the OpenAPI document gets an example of each response.

By the name of the field or enumeration, or by MODEL.NAME where the name has another meaning. Other enumerations,
booleans, times and ids need no entry: see `example_of`. A test validates every example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qw.core.task.payload import JsonObject

_ID = "01a20c90-b2a1-7f5e-8a59-2f6c1f0e3b77"
_TIME = "2026-11-28T09:30:00Z"
_ERROR = "ConnectionError: mail.example.com:25 refused the connection"
_FORMATS: Mapping[str, str] = {"uuid": _ID, "date-time": _TIME}

_VALUES: Mapping[str, Any] = {
    "about": "the status of the task",
    "actor": "zoe",
    "advice": "Start a worker that serves the queue: qw daemon --queues mail",
    "again": ["generate_pdf"],
    "ageSeconds": 0.4,
    "attempt": 1,
    "blocked": 0,
    "blocker": None,
    "by": "zoe",
    "body": {"type": "task.completed", "task": {"id": _ID}},
    "broken": None,
    "byName": {"qw worker": 2, "qw relay": 1},
    "cancelled": 2,
    "cap": 100,
    "cause": "tick",
    "childRunId": None,
    "code": "no_worker",
    "command": "qw task show 01a20c90",
    "compensates": None,
    "completed": 1280,
    "completedSeconds": 604800,
    "completedTasks": 3,
    "concurrency": 10,
    "count": 3,
    "cpuPercent": 12.5,
    "cron": "0 3 * * *",
    "cronExpression": "0 3 * * *",
    "csrf": "c2Vzc2lvbi10b2tlbg",
    "current": "0001_initial",
    "customerId": "zoe",
    "deadRows": 120,
    "definition": {"initialTask": {"type": "fetch_orders", "payload": {"customerId": "zoe"}}},
    "deletedAt": None,
    "depth": [12, 8],
    "description": "Sends the daily report",
    "detail": None,
    "done": 3,
    "dueAt": None,
    "enqueued": [40, 35],
    "error": None,
    "errorKind": None,
    "everySeconds": None,
    "events": ["task.failed"],
    "failed": 3,
    "failedPerMinute": 0.2,
    "failedSeconds": 2592000,
    "failedTasks": 0,
    "faults": [],
    "field": "status",
    "file": "/srv/app/tasks.py",
    "fix": None,
    "fraction": 0.4,
    "function": "send_email",
    "graph": "fetch_orders --> create_invoice",
    "headers": {"source": "shop"},
    "held": 0,
    "host": "worker-1",
    "idempotencySeconds": 604800,
    "ids": None,
    "inPerMinute": 42.0,
    "input": {"customerId": "zoe"},
    "isActive": True,
    "isComplete": True,
    "isHealthy": True,
    "jitterSeconds": 0,
    "kept": ["fetch_orders", "create_invoice"],
    "key": None,
    "known": 0,
    "lastError": _ERROR,
    "lateSeconds": 95.0,
    "level": "INFO",
    "line": 21,
    "link": "/queues/mail",
    "local": "2026-11-28T10:30:00+01:00",
    "matched": 3,
    "max": 100,
    "maxRetries": 3,
    "memoryBytes": 52428800,
    "message": "done",
    "name": "mail",
    "needs": ["create_invoice"],
    "newer": 0,
    "newest": "0001_initial",
    "note": "",
    "oldestSeconds": 1.5,
    "oldestTransactionSeconds": 0.2,
    "outPerMinute": 41.5,
    "outcome": "completed",
    "outcomes": {"completed": [40, 34], "failed": [0, 1]},
    "output": None,
    "p50": 0.02,
    "p95": 0.4,
    "p99": 1.1,
    "parent": 4100,
    "parentId": None,
    "passed": 2,
    "pausedAt": None,
    "pausedBy": None,
    "payload": {"customerId": "zoe", "invoiceId": "INV-7"},
    "pending": 12,
    "pendingTasks": 0,
    "perKey": 1,
    "perKeyRate": None,
    "pid": 4127,
    "priority": 3,
    "processing": 4,
    "processingTasks": 1,
    "progress": 75,
    "q": "status:failed type:send_email",
    "queue": "mail",
    "queues": ["mail"],
    "rate": "100/m",
    "ready": 12,
    "reason": None,
    "result": {"sent": True},
    "retries": 0,
    "retrying": 1,
    "rows": 48200,
    "running": 4,
    "schema": {"type": "object"},
    "scheduledAt": _TIME,
    "sizeBytes": 73400320,
    "skipped": {"not failed": 1},
    "slots": {"async": 100, "thread": 32, "process": 2},
    "sparkline": [3, 5, 4],
    "started": 10,
    "step": "generate_pdf",
    "stepId": None,
    "stepSeconds": 60,
    "target": _ID,
    "tasks": 12,
    "taskLogs": 30,
    "text": "no worker serves the queue mail",
    "timeoutSeconds": 300.0,
    "times": [1764322200, 1764322260],
    "timezone": "Europe/Paris",
    "total": 120,
    "totalTasks": 4,
    "type": "send_email",
    "types": ["send_email"],
    "url": "https://hooks.example.com/qw",
    "used": 14,
    "value": "failed",
    "values": ["pending", "processing", "completed", "failed", "retrying", "cancelled"],
    "verb": "task retry",
    "version": "0.1.0",
    "via": "cli",
    "webhook": "billing",
    "when": "at 03:00 every day",
    "why": "create_invoice completes",
    "windowSeconds": None,
    "worker": 3,
    "workflow": "invoice",
    "workflowName": "invoice",
    "workflows": 2,
    "zone": "Europe/Paris",
    "Status": "completed",
    "RunStatus": "completed",
    "StepStatus": "completed",
    "ApprovalAnswer.message": "approved",
    "AuditEntity.id": 4711,
    "AuditEntity.outcome": "done",
    "AuditPage.nextCursor": 4711,
    "BrokerEntity.state": "up",
    "BulkEntity.id": 7,
    "BulkEntity.state": "done",
    "CheckEntity.name": "migrations",
    "CheckEntity.level": "ok",
    "CheckEntity.ok": True,
    "CheckEntity.text": "the schema is current",
    "CheckpointEntity.name": "charge",
    "CheckpointEntity.value": {"charge": "ch_1"},
    "DeliveryEntity.status": 200,
    "DeliveryEntity.type": "task.failed",
    "EventEntity.id": 4711,
    "EventEntity.type": "task.completed",
    "EventPage.nextCursor": 4711,
    "FieldEntity.name": "status",
    "FrameEntity.code": "await smtp.send(message)",
    "HolderEntity.key": "zoe",
    "HistoryEntity.oldestSeconds": [1.5, 0.9],
    "HistoryEntity.running": [4, 4],
    "Indicator.message": "connected",
    "LateSchedule.name": "nightly",
    "LogEntity.id": 4711,
    "LogEntity.message": "sent to zoe@example.com",
    "Planned.status": "completed",
    "PlannedStep.status": "completed",
    "ProgressEntity.message": "40 of 100 pages",
    "QuantileColumns.p50": [0.02, 0.03],
    "QuantileColumns.p95": [0.4, 0.5],
    "QuantileColumns.p99": [1.1, 1.2],
    "SchedulePage.nextCursor": "nightly",
    "ScheduleEntity.name": "nightly",
    "SessionEntity.name": "zoe",
    "StackEntity.text": "send_email (/srv/app/tasks.py:21)",
    "StepEntity.id": "generate_pdf",
    "TableEntity.name": "qw.task",
    "TermEntity.text": "status:failed",
    "TestResult.name": "all goes well",
    "TestResult.passed": True,
    "TestResults.failed": 0,
    "TimelineStepEntity.id": "generate_pdf",
    "TimelineStepEntity.status": "completed",
    "TypeEntity.name": "send_email",
    "Version.name": "qw",
    "WorkerDetails.id": 3,
    "WorkerEntity.id": 3,
    "WorkflowEntity.name": "invoice",
    "WorkflowWithTasks.name": "invoice",
}


def example_of(schema: Any, schemas: JsonObject, *, field: str = "", model: str = "") -> Any:
    """Return an example of *schema*, the schema of *field* in *model* unless both are empty.

    Raise KeyError, with the name of the field, if there is no value for it.
    """
    for name in (f"{model}.{field}", field):
        if name in _VALUES and not _has_members(schema):
            return _VALUES[name]
    if options := schema.get("anyOf"):
        return example_of(options[0], schemas, field=field, model=model)
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return _VALUES[name] if name in _VALUES else example_of(schemas[name], schemas, model=name)
    if "properties" in schema:
        properties = schema["properties"].items()
        return {name: example_of(about, schemas, field=name, model=model) for name, about in properties}
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "array":
            return [example_of(schema["items"], schemas, field=field, model=model)]
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return {"mail": example_of(schema["additionalProperties"], schemas, model=model)}
        case "object" if not field:
            return {}
        case "boolean":
            return False
        case "string" if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
    raise KeyError(f"{model}.{field}")


def _has_members(schema: Any) -> bool:
    """Whether the value is one with a schema of its own, or a list or map of such."""
    inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("anyOf", ())]
    return "$ref" in schema or any(isinstance(part, dict) and _has_members(part) for part in inner)
