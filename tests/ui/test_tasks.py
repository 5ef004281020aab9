"""What people do with tasks on the dashboard, one by one and many at once, to its effect in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from tests.ui.work import Shop
from tests.web.live import until

Visit = Callable[..., Any]


def declined(shop: Shop, queue: str, count: int) -> list[str]:
    """Tasks that failed for good."""
    payload = {"customerId": "zoe", "amount": 4, "decline": True}
    ids = [shop.task("charge_card", payload, queue=queue, maxRetries=1) for _ in range(count)]
    for id in ids:
        assert shop.final(id)["status"] == "failed"
    return ids


def status(shop: Shop, id: str) -> str:
    return str(shop.get(f"/api/task/{id}")["status"])


def test_a_failed_task_tells_why_and_is_retried(shop: Shop, visit: Visit) -> None:
    (id,) = declined(shop, "one", 1)
    opened = visit(shop, f"ui/tasks/{id}")
    opened.see("insufficient funds")
    opened.see(f"qw task retry {id}")

    opened.press("Retry")
    opened.see("runs again at once", within="dialog")
    opened.press("Retry the task")

    until(lambda: shop.get(f"/api/task/{id}/timeline")["attempts"], lambda attempts: len(attempts) == 2)
    opened.see("Attempt 2")


def test_a_running_task_shows_what_it_is_doing_and_is_stopped(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, f"ui/tasks/{shop.running}")
    opened.press("Show")
    opened.see("await asyncio.sleep(seconds)")

    opened.press("Cancel")
    opened.press("Cancel the task")

    until(lambda: status(shop, shop.running), lambda found: found == "cancelled")
    opened.see("cancelled", within=".page-head")


def test_the_payload_of_a_waiting_task_is_edited(shop: Shop, visit: Visit) -> None:
    id = shop.task("noop", {"to": "zoe", "big": 9007199254740993}, delay="1h")
    opened = visit(shop, f"ui/tasks/{id}")
    opened.press("More")
    opened.press("Edit the payload", within=".menu")
    field = opened.page.get_by_label("Payload", exact=True).last

    assert "9007199254740993" in field.input_value()
    field.fill('{"to": "ann", "big": 9007199254740993}')
    opened.press("Save")
    opened.see("Payload changed")

    assert shop.get(f"/api/task/{id}")["payload"] == {"to": "ann", "big": 9007199254740993}


def test_a_task_is_enqueued_again_with_another_payload(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, f"ui/tasks/{shop.synced}")
    opened.press("More")
    opened.press("Enqueue again with another payload", within=".menu")
    opened.page.get_by_label("pages", exact=True).fill("2")

    opened.press("Enqueue", within="dialog")
    opened.page.wait_for_url(lambda url: "/ui/tasks/" in url and shop.synced not in url)

    assert shop.final(opened.page.url.rsplit("/", 1)[1])["result"] == {"contacts": 100}


def test_chosen_tasks_are_retried_by_a_key(shop: Shop, visit: Visit) -> None:
    first, second = declined(shop, "chosen", 2)
    opened = visit(shop, "ui/tasks?q=queue:chosen")
    opened.page.wait_for_selector(f'tr[data-row="{first}"]')
    for key in ("j", "x", "r"):
        opened.page.keyboard.press(key)
    opened.press("Retry 1 task")
    opened.see("1 task retried")

    attempts = [len(shop.get(f"/api/task/{id}/timeline")["attempts"]) for id in (first, second)]
    assert attempts == [1, 2]  # the newest is the first row


def test_everything_that_matches_is_requeued(shop: Shop, visit: Visit) -> None:
    shop.finished("all", 120)
    opened = visit(shop, "ui/tasks?q=queue:all")
    opened.press("Everything that matches (120)")
    opened.press("Requeue all that match", within=".menu")
    opened.see("120 tasks", within="dialog")
    opened.press("Requeue all")
    opened.see("120 tasks requeued")

    assert shop.get("/api/search/tasks", params={"q": "queue:all"})["count"] == 240


def test_a_bulk_act_shows_its_progress_and_is_stopped(shop: Shop, visit: Visit) -> None:
    shop.finished("stopped", 1200)
    opened = visit(shop, "ui/tasks?q=queue:stopped")
    opened.page.get_by_label("Choose all rows").check()
    opened.press("Everything that matches (1,200)")
    opened.press("Requeue all that match", within=".menu")
    with psycopg.connect(shop.url) as halting:
        halting.execute("lock table qw.audit in share mode")  # the first batch waits
        opened.press("Requeue all")
        opened.see("Requeueing 1,200 tasks")
        with opened.page.expect_response("**/stop"):
            opened.press("Stop", within=".banner")

    opened.see("500 tasks requeued, then stopped")
