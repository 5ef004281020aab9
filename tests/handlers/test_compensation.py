from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from qw.core.task.handler_api import Context, Recorded, Reject, Retry, Snooze
from qw.core.task.payload import Json
from qw.handlers import Handlers
from qw.handlers.compensation import add_compensation
from qw.handlers.invoice import (
    InvoiceOptions,
    MailOptions,
    OrdersOptions,
    PdfOptions,
    add_create_invoice,
    add_fetch_orders,
    add_generate_pdf,
    add_send_email,
)
from tests.handlers.context import MemoryContext, MemoryNumbers, files, new_id, run


class Memory:
    """`Records` of tasks that a test has run: the last completed first, as the store gives them."""

    def __init__(self, *recorded: Recorded) -> None:
        self.recorded = list(recorded)

    async def completed_of_run(self, run_id: UUID) -> Sequence[Recorded]:
        return list(reversed(self.recorded))

    async def completed_task(self, task_id: UUID) -> Recorded | None:
        return next((recorded for recorded in self.recorded if recorded.task_id == task_id), None)


def recorded(type: str, result: Json = None, payload: Any = None, task_id: UUID | None = None) -> Recorded:
    return Recorded(
        task_id=task_id or new_id(), type=type, payload=payload or {}, result=result, finished_at=datetime.now(UTC)
    )


class Undoing:
    """Types a, b and c that keep the order in which they are undone; those in ``broken`` cannot be."""

    def __init__(self, *done: Recorded) -> None:
        self.app = Handlers()
        self.undone: list[str] = []
        self.broken: dict[str, Exception] = {}
        for type in "abc":
            self.app.handler(type, compensate=self._undo)(_nothing)
        self.app.handler("plain")(_nothing)
        add_compensation(self.app, Memory(*done))

    async def _undo(self, context: Context, recorded: Recorded) -> Json:
        if recorded.type in self.broken:
            raise self.broken[recorded.type]
        self.undone.append(recorded.type)
        return {"was": recorded.result}


async def _nothing() -> None:
    pass


async def test_a_run_is_undone_in_reverse_order_of_completion() -> None:
    done = [recorded("a", 1), recorded("b", 2), recorded("plain"), recorded("c", 3)]
    undoing = Undoing(*done)

    payload: dict[str, Json] = {"reason": "out of stock", "originalTaskId": str(new_id()), "customerId": 7}
    result = await run(undoing.app, "compensation", payload, MemoryContext(run_id=new_id()))

    assert undoing.undone == ["c", "b", "a"]
    assert result["reason"] == "out of stock"
    assert [(entry["type"], entry["action"], entry["detail"]) for entry in result["compensated"]] == [
        ("c", "undone", {"was": 3}),
        ("plain", "nothing to undo", None),
        ("b", "undone", {"was": 2}),
        ("a", "undone", {"was": 1}),
    ]
    assert [entry["taskId"] for entry in result["compensated"]] == [str(task.task_id) for task in reversed(done)]


async def test_an_undo_that_fails_is_tried_again_and_the_others_are_not() -> None:
    undoing = Undoing(recorded("a"), recorded("b"), recorded("c"))
    context = MemoryContext(run_id=new_id())
    undoing.broken["b"] = OSError("disk full")

    with pytest.raises(Retry, match=r"undoing b .* failed: disk full"):
        await run(undoing.app, "compensation", {}, context)
    assert undoing.undone == ["c"]

    undoing.broken.clear()
    result = await run(undoing.app, "compensation", {}, context)
    assert undoing.undone == ["c", "b", "a"]
    assert [entry["type"] for entry in result["compensated"]] == ["c", "b", "a"]


@pytest.mark.parametrize("verdict", [Reject("never"), Snooze(5)])
async def test_what_an_undo_says_about_trying_again_holds(verdict: Exception) -> None:
    undoing = Undoing(recorded("a"))
    undoing.broken["a"] = verdict

    with pytest.raises(type(verdict)):
        await run(undoing.app, "compensation", {}, MemoryContext(run_id=new_id()))


async def test_outside_a_run_only_the_task_named_is_undone() -> None:
    done = [recorded("a"), recorded("b")]
    undoing = Undoing(*done)

    await run(undoing.app, "compensation", {"originalTaskId": str(done[0].task_id), "compensationAction": "rollback"})
    await run(undoing.app, "compensation", {}, MemoryContext(parent_id=done[1].task_id))

    assert undoing.undone == ["a", "b"]


async def test_a_task_that_did_not_complete_has_nothing_to_undo() -> None:
    id = str(new_id())

    result = await run(Undoing().app, "compensation", {"originalTaskId": id, "originalTaskType": "a"})

    detail = "the task is not completed"
    assert result["compensated"] == [{"taskId": id, "type": "a", "action": "nothing to undo", "detail": detail}]


async def test_a_compensation_of_nothing_named_is_rejected() -> None:
    with pytest.raises(Reject, match="give originalTaskId"):
        await run(Undoing().app, "compensation", {})


async def test_a_type_that_is_not_served_here_is_not_called_undone() -> None:
    undoing = Undoing(recorded("elsewhere"))

    with pytest.raises(Retry, match="does not serve its type 'elsewhere'"):
        await run(undoing.app, "compensation", {}, MemoryContext(run_id=new_id()))


async def test_the_invoice_chain_runs_and_is_undone(tmp_path: Path) -> None:
    app, memory = Handlers(), Memory()
    add_fetch_orders(app, OrdersOptions())
    add_create_invoice(
        app, InvoiceOptions(directory=tmp_path, numbers=MemoryNumbers(datetime(2026, 11, 24, tzinfo=UTC)))
    )
    add_generate_pdf(app, PdfOptions(directory=tmp_path))
    add_send_email(app, MailOptions(directory=tmp_path))
    add_compensation(app, memory)
    payload: dict[str, Any] = {"customerId": "zoe"}
    for type in ("fetch_orders", "create_invoice", "generate_pdf", "send_email"):
        context = MemoryContext()
        result = await run(app, type, payload, context)
        memory.recorded.append(recorded(type, result, payload, context.task_id))
        payload = {**payload, **result}
    number = payload["invoice"]["invoiceNumber"]
    assert payload["invoice"]["grandTotal"] == 302.38
    assert (tmp_path / f"{number}.pdf").exists()

    result = await run(app, "compensation", {"reason": "refused"}, MemoryContext(run_id=new_id()))

    assert [entry["action"] for entry in result["compensated"]] == ["undone", "undone", "undone", "nothing to undo"]
    assert [path.suffix for path in files(tmp_path)] == [".json", ".eml", ".eml"]
