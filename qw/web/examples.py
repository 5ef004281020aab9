"""What the OpenAPI document says of parameters, and an example of each body; a test checks that every one is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PATH: Mapping[str, str] = {
    "id": "The id, a UUID.",
    "taskId": "The id of the task, a UUID.",
    "name": "The name.",
    "worker": "The number of the worker.",
    "number": "The number of the bulk operation.",
    "customerId": "The customer, as in payload.customerId.",
}

QUERY: Mapping[str, str] = {
    "after": "Only what comes after this id or name.",
    "active": "Only those that are active, or are not.",
    "actor": "Only acts of this user, token or database role.",
    "before": "Only what comes before this id or time.",
    "count": "How many; in a search, whether to count the matches.",
    "cursor": "The nextCursor of the page before.",
    "fires": "How many of the last fires to add to each schedule.",
    "format": "ascii, mermaid, dot or svg.",
    "limit": "Maximum number of items, at most 1,000.",
    "next": "How many of the next ticks to add to each schedule.",
    "q": 'Terms that must all match: status:failed type:send_email since:2h payload.customerId:zoe "text in error".',
    "queue": "Only of this queue.",
    "range": "How far back: 1h, 24h, 7d or 30d.",
    "relations": "What to add, with commas between: workflow, logs.",
    "reveal": "Show values that look secret; for operators.",
    "running": "Ask a running task to stop, too.",
    "since": "Only what was created at or after this time.",
    "status": "Only of this status.",
    "step": "From this step on; without it from those that failed.",
    "taskId": "Only of this task.",
    "type": "Only of this type; types of events may contain *.",
    "until": "Only what was created before this time.",
    "verb": "Only this verb of the command line, as 'task retry', or all of 'task'.",
    "verbose": "Answer with a report in JSON.",
    "via": "Only through cli, http, dashboard, python or sql.",
    "workflow": "Only of the workflow with this name.",
    "workflowId": "Only of the workflow with this id.",
}

_TASK = {"type": "send_email", "payload": {"customerId": "zoe", "invoiceId": "INV-7"}}
_WORKFLOW = {
    "name": "invoice",
    "definition": {
        "initialTask": {"type": "fetch_orders", "payload": {"customerId": "zoe"}},
        "transitions": {"fetch_orders": {"type": "create_invoice", "payload": {}}},
    },
}
_DECISION = {"step": "release", "comment": "checked"}
_INVOICE = {"customerId": "zoe", "dateFrom": "2026-11-01", "dateTo": "2026-11-30"}

BODIES: Mapping[str, Any] = {
    "POST /api/task": {**_TASK, "queue": "mail", "priority": 3, "maxRetries": 5},
    "POST /api/task/retry": {"filter": {"type": "send_email", "since": "2026-11-27T00:00:00Z"}, "dryRun": True},
    "POST /api/task/cancel": {"filter": {"queue": "mail", "status": "pending"}, "dryRun": True},
    "PUT /api/task/{id}/payload": {"payload": {"customerId": "zoe", "invoiceId": "INV-8"}},
    "POST /api/queue-manager/enqueue": _TASK,
    "POST /api/scheduler/tasks/scheduled": {**_TASK, "scheduledAt": "2030-01-01T03:00:00Z"},
    "POST /api/scheduler/tasks/recurring": {**_TASK, "cronExpression": "0 3 * * *"},
    "POST /api/invoice/workflow/start": _INVOICE,
    "POST /api/invoice/workflow/scheduled": {**_INVOICE, "scheduledAt": "2030-01-01T03:00:00Z"},
    "POST /api/invoice/workflow/recurring": {**_INVOICE, "cronExpression": "0 3 1 * *"},
    "POST /api/invoice/email/scheduled": {
        "customerId": "zoe",
        "invoiceId": "INV-7",
        "scheduledAt": "2030-01-01T03:00:00Z",
    },
    "POST /api/workflows": _WORKFLOW,
    "PUT /api/workflows/{id}": _WORKFLOW,
    "POST /api/workflows/validate": {"definition": _WORKFLOW["definition"]},
    "POST /api/workflows/plan": {
        "definition": _WORKFLOW["definition"],
        "input": {"customerId": "zoe"},
        "assume": {"invoice": "failed:http:503"},
    },
    "POST /api/workflows/test": {
        "definition": _WORKFLOW["definition"],
        "tests": {"all goes well": {"input": {"customerId": "zoe"}, "expect": {"status": "completed"}}},
    },
    "POST /api/workflows/{id}/start": {"input": {"customerId": "zoe"}},
    "POST /api/runs/{id}/signal": {"name": "paid", "payload": {"amount": 275}},
    "POST /api/task/{id}/signal": {"name": "paid", "payload": {"amount": 275}},
    "POST /api/runs/{id}/approve": _DECISION,
    "POST /api/runs/{id}/reject": _DECISION,
    "POST /api/runs/{id}/retry": {"step": "generate_pdf"},
    "POST /api/runs/{id}/compensation-done": {"step": "compensate:create_invoice", "comment": "voided by hand"},
    "POST /api/schedules": {"name": "nightly", "cron": "0 3 * * *", "timezone": "Europe/Paris", "type": "noop"},
    "POST /api/schedules/{name}/backfill": {"since": "2026-11-01T00:00:00Z", "dryRun": True},
    "PUT /api/queues/{name}/limits": {"concurrency": 10, "rate": "100/m", "key": "payload.customerId", "perKey": 1},
    "POST /api/queues/{name}/purge": {"confirm": "mail"},
    "POST /api/bulk": {"action": "retry", "q": "status:failed type:send_email since:2h", "dryRun": True},
    "POST /api/ui/login": {"token": "a secret of QW_API_TOKENS"},
    "POST /api/seeder/seed": {"tasksPerType": 3},
    "POST /api/seeder/reset": {"tasksPerType": 3},
}
