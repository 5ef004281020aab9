"""What people do on the dashboard, to its effect in the database; and who may."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.ui.work import Shop
from tests.web.live import Live, until

Visit = Callable[..., Any]


def test_a_queue_is_paused_and_resumed(shop: Shop, visit: Visit) -> None:
    shop.task("noop", queue="mail", delay="1h")

    def paused() -> bool:
        return any(each["pausedAt"] for each in shop.get("/api/queues")["queues"] if each["name"] == "mail")

    opened = visit(shop, "ui/queues")
    opened.press("Actions for mail")
    opened.press("Pause", within=".menu")
    opened.see("will wait", within="dialog")
    opened.press("Pause", within="dialog")
    until(paused)
    opened.press("Actions for mail")
    opened.press("Resume", within=".menu")

    until(lambda: not paused())


def test_limits_are_set(shop: Shop, visit: Visit) -> None:
    shop.task("noop", queue="limited", delay="1h")
    opened = visit(shop, "ui/queues")

    opened.press("Actions for limited")
    opened.press("Set limits", within=".menu")
    opened.page.get_by_label("Running at once", exact=False).first.fill("3")
    opened.press("Set limits", within="dialog")
    opened.see("Limits of limited set")

    queue = next(each for each in shop.get("/api/queues")["queues"] if each["name"] == "limited")
    assert queue["limits"]["concurrency"] == 3


def test_a_run_is_started_by_the_form_of_its_inputs_and_approved(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, f"ui/workflows/{shop.workflow_id('order')}")
    opened.press("Start a run")
    opened.page.get_by_label("customerId").fill("ann")

    opened.press("Start the run")
    opened.page.wait_for_url(re.compile(r"/ui/runs/[0-9a-f-]{36}$"))
    id = opened.page.url.rsplit("/", 1)[1]
    opened.press("Approve")
    opened.page.get_by_label("Note").fill("ship it")
    opened.press("Approve", within="dialog")

    until(lambda: shop.get(f"/api/runs/{id}")["status"], lambda status: status == "completed")
    assert shop.get(f"/api/runs/{id}")["input"]["customerId"] == "ann"


def test_a_run_is_cancelled(shop: Shop, visit: Visit) -> None:
    id = shop.start("order", customerId="zoe")
    opened = visit(shop, f"ui/runs/{id}")

    opened.press("Cancel")
    opened.press("Cancel the run")

    until(lambda: shop.get(f"/api/runs/{id}")["status"], lambda status: status == "cancelled")


def signed_in(visit: Visit, server: Live, secret: str, path: str) -> Any:
    opened = visit(server, path, allow=(401,))
    opened.page.get_by_label("Access token").fill(secret)
    opened.press("Sign in")
    opened.page.wait_for_selector(".sidebar")
    return opened


def test_a_wrong_token_is_told_and_a_right_one_lets_in(guarded: Live, visit: Visit) -> None:
    opened = visit(guarded, "ui/queues", allow=(401,))
    opened.page.get_by_label("Access token").fill("wrong")
    opened.press("Sign in")
    opened.see("The server does not know this token")
    assert opened.axe() == []

    opened.page.get_by_label("Access token").fill("operator-secret-16")
    opened.press("Sign in")
    opened.see("otto · operator")
    opened.page.reload()
    opened.see("otto · operator")
    opened.press("Sign out")

    opened.page.get_by_label("Access token").wait_for()


def test_until_somebody_signs_in_only_the_session_is_asked_for(guarded: Live, visit: Visit) -> None:
    opened = visit(guarded, "ui/queues")  # a 401 would be a fault
    opened.page.get_by_label("Access token").wait_for()
    opened.page.wait_for_timeout(300)


def test_a_session_that_ended_is_told_and_goes_on_where_it_was(guarded: Live, visit: Visit) -> None:
    opened = signed_in(visit, guarded, "viewer-secret-16", "ui/queues")
    opened.allow = (401,)
    opened.context.clear_cookies()
    opened.page.get_by_role("link", name="Audit").click()
    opened.see("Your session has ended")
    opened.page.get_by_label("Access token").fill("viewer-secret-16")
    opened.press("Sign in")

    opened.page.wait_for_selector("h1:has-text('Audit')")


@pytest.mark.parametrize(
    ("secret", "verbs"),
    [
        ("viewer-secret-16", set()),
        ("operator-secret-16", {"Pause", "Purge"}),
        ("admin-secret-1616", {"Pause", "Set limits", "Purge"}),
    ],
)
def test_what_one_may_not_do_is_not_there(guarded: Live, visit: Visit, secret: str, verbs: set[str]) -> None:
    headers = {"Authorization": "Bearer admin-secret-1616"}
    guarded.api.post("/api/task", json={"type": "noop", "payload": {}, "queue": "mail"}, headers=headers)
    opened = signed_in(visit, guarded, secret, "ui/queues")
    opened.see("mail", within="tbody")

    menu = opened.page.get_by_role("button", name="Actions for mail")
    shown = set()
    if menu.count():
        menu.click()
        shown = set(opened.page.locator(".menu li").all_inner_texts())

    assert {text.strip() for text in shown} == verbs


def test_an_operator_acts_with_the_cookie_and_the_csrf_header(guarded: Live, visit: Visit) -> None:
    headers = {"Authorization": "Bearer admin-secret-1616"}
    guarded.api.post("/api/task", json={"type": "noop", "payload": {}, "queue": "acted"}, headers=headers)
    opened = signed_in(visit, guarded, "operator-secret-16", "ui/queues")

    opened.press("Actions for acted")
    opened.press("Pause", within=".menu")
    opened.press("Pause", within="dialog")
    opened.see("Queue acted paused")

    queues = guarded.api.get("/api/queues", headers=headers).json()["queues"]
    assert [each["pausedBy"] for each in queues if each["name"] == "acted"] == ["otto"]


def test_a_queue_is_purged_by_an_operator_who_types_its_name(guarded: Live, visit: Visit) -> None:
    guarded.api.headers["Authorization"] = "Bearer admin-secret-1616"
    for _ in range(3):
        guarded.task("noop", queue="emptied", delay="1h")
    opened = signed_in(visit, guarded, "operator-secret-16", "ui/queues/emptied")
    opened.press("More")
    opened.press("Purge", within=".menu")
    confirm = opened.page.locator("dialog").get_by_role("button", name="Cancel waiting tasks")
    assert confirm.is_disabled()

    opened.page.get_by_label("to confirm").fill("emptied")
    confirm.click()
    opened.see("Queue emptied purged: 3 tasks cancelled")

    (queue,) = (each for each in guarded.get("/api/queues")["queues"] if each["name"] == "emptied")
    assert (queue["pending"], queue["cancelled"]) == (0, 3)


def test_a_viewer_has_no_acts_on_a_task_and_sees_no_secret(guarded: Live, visit: Visit) -> None:
    guarded.api.headers["Authorization"] = "Bearer admin-secret-1616"
    id = guarded.task("noop", {"to": "zoe", "apiToken": "hidden-value"}, delay="1h")
    opened = signed_in(visit, guarded, "viewer-secret-16", f"ui/tasks/{id}")
    opened.see("apiToken")

    assert opened.page.locator(".page-head .actions button").count() == 0
    assert "hidden-value" not in opened.page.content()


def schedule(shop: Shop, name: str) -> Any:
    return shop.get(f"/api/schedules/{name}")


def test_a_schedule_is_paused_and_resumed(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "ui/schedules/monday-report")
    opened.see("at 09:00 on Monday, Europe/Berlin")

    opened.press("Pause")
    until(lambda: schedule(shop, "monday-report")["paused"])
    opened.press("Resume")

    until(lambda: not schedule(shop, "monday-report")["paused"])


def test_a_schedule_is_triggered_and_links_to_what_it_started(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "ui/schedules/nightly-import")
    opened.press("Trigger now")
    opened.press("Trigger")

    opened.page.get_by_role("link", name="Open it").click()
    opened.page.wait_for_url(re.compile(r"/ui/runs/[0-9a-f-]{36}$"))
    opened.see("import", within="h1")


def test_a_backfill_says_which_ticks_will_fire(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "ui/schedules/nightly-import")
    since = datetime.now(UTC) - timedelta(days=3)
    opened.press("More")
    opened.press("Backfill", within=".menu")

    opened.page.get_by_label("Since").fill(since.strftime("%Y-%m-%dT%H:%M"))
    opened.page.get_by_label("Since").press("Tab")
    opened.see("3 ticks will fire")
    opened.press("Fire these ticks")
    opened.see("3 ticks fired")

    fires = shop.get("/api/schedules/nightly-import/fires")["fires"]
    assert [each["cause"] for each in fires].count("backfill") == 3


def test_events_arrive_live_and_wait_while_paused(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "ui/events?find=arrived")
    opened.see("live", within=".page-head")
    shop.task("noop", queue="arrived-1")
    opened.see("task.created", within="tbody")

    opened.press("Pause")
    opened.see("paused", within=".page-head")
    before = opened.page.locator("tbody tr").count()
    second = shop.task("noop", queue="arrived-2")
    shop.final(second)
    assert opened.page.locator("tbody tr").count() == before
    opened.press("Resume")

    opened.page.locator("tbody tr").nth(before).wait_for()


def test_the_audit_says_what_was_done_here_and_is_filtered(shop: Shop, visit: Visit) -> None:
    shop.post("/api/queues/audited/pause", headers={"X-QW-Client": "dashboard"})
    opened = visit(shop, "ui/audit")
    opened.see("audited", within="tbody")
    opened.see("dashboard", within="tbody")

    opened.page.get_by_label("Act, for example task retry").fill("schedule")
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_url(re.compile("verb=schedule"))

    opened.page.locator("tbody tr", has_text="audited").wait_for(state="detached")


def test_the_database_shows_its_tables_and_what_the_doctor_says(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "ui/database")
    opened.see("schema 0001_initial")

    opened.press("Show all")

    assert opened.page.locator("tbody tr", has_text="relay_slot").count() == 1
