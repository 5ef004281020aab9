"""A shop that has been open for a day, to look at: right-to-left names, markup, long ids, failures of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.ui.work import Shop, opened_shop
from tests.web.live import until

PLATFORMS = ("linux-x64", "linux-arm64", "macos-arm64", "windows-x64")
CUSTOMERS = (
    "zoe",
    "عمر بن عبد العزيز",
    "<script>alert('zoe')</script>",
    "דנה כהן",
    "Łukasz & Żółć",
    "名前の長いお客様",
)
LONG = "a-queue-with-a-name-that-nobody-would-choose-but-that-somebody-will-have-chosen"

_SHARES = "(values ('', 45.0), ('mail', 22.0), ('payments', 9.0), ('pictures', 8.0), ('crm', 5.0), ('imports', 1.0))"
_SPANS = "(values ('minute', interval '1 minute', 1500, 1.0), ('hour', interval '1 hour', 200, 60.0))"
_HISTORY = f"""
insert into qw.history (span, at, queue, name, result, counts, total)
select span, at, queue, 'task_attempts', result, array[sum(n)::bigint], 0
  from (select s.span, date_trunc(s.span, now() - n * s.step) as at, q.name as queue, r.name as result,
               (s.size * q.share * r.share * (1.2 + sin(n / 7.0 + q.share * 9) + abs(sin(n * 12.9898 + q.share)))
                 * case when r.name = 'failed' and n between 17 and 24 then 14 else 1 end)::bigint as n
          from {_SPANS} s (span, step, most, size)
          cross join generate_series(0, s.most) n
          cross join {_SHARES} q (name, share)
          cross join (values ('completed', 1.0), ('failed', 0.012), ('cancelled', 0.004), ('retried', 0.03))
                     r (name, share)) seen
 group by 1, 2, 3, 5 on conflict do nothing
"""
_WAITS = """
insert into qw.history (span, at, queue, name, result, counts, total)
select h.span, h.at, h.queue, m.name, '',
       array[0, 9, 40, 90, 160, 200, 120 + h.counts[1], h.counts[1], h.counts[1] / 9, h.counts[1] / 30]::bigint[]
         || array_fill(0::bigint, array[8]), 40
  from qw.history h, (values ('task_wait_seconds'), ('task_run_seconds')) m (name)
 where h.name = 'task_attempts' and h.result = 'completed' on conflict do nothing
"""
_SAMPLES = f"""
insert into qw.queue_sample (span, at, queue, waiting, running, oldest, enqueued)
select s.span, date_trunc(s.span, now() - n * s.step), q.name,
       (q.share * (4 + 2 * sin(n / 9.0) + abs(sin(n * 7.77))))::bigint, (q.share / 5)::bigint,
       2 + abs(sin(n / 5.0)) * 20, greatest(0, q.share / 45 * (200000 - n * extract(epoch from s.step)))::bigint
  from {_SPANS} s (span, step, most) cross join generate_series(0, s.most) n cross join {_SHARES} q (name, share)
on conflict do nothing
"""
_TALLY = f"""
insert into qw.tally (queue, pruned) select name, share / 45 * 200000 from {_SHARES} q (name, share) where name <> ''
"""


@contextmanager
def gallery(url: str, *, odd: bool = True) -> Iterator[Shop]:
    """A server with a daemon over the migrated database at *url*, and work of every kind in it; also what is *odd*."""
    with opened_shop(url, definitions()) as shop:
        with psycopg.connect(url, autocommit=True) as conn:
            for statement in (_HISTORY, _WAITS, _SAMPLES, _TALLY):
                conn.execute(statement.encode())
        furnish(shop)
        if odd:
            furnish_oddly(shop)
        yield shop


def definitions() -> str:
    """Those of the shop, and a workflow of 30 steps of which some fail."""
    document = yaml.safe_load((Path(__file__).parent / "shop.yaml").read_text())
    document["workflows"]["release"] = {
        "description": "Build, test and publish on every platform",
        "input": {"version": "string"},
        "steps": release(),
    }
    return json.dumps(document)


def release() -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {"id": "checkout", "type": "noop"},
        {"id": "dependencies", "type": "sync_crm", "needs": "checkout", "with": {"pages": 3}},
    ]
    for name in PLATFORMS:
        image = {"id": f"image-{name}", "type": "resize_image", "needs": "dependencies"}
        build = {"id": f"build-{name}", "type": "sync_crm", "needs": image["id"], "with": {"pages": 4, "pause": 0.1}}
        amount = 20_000 if name == "windows-x64" else 1
        unit = {"id": f"unit-tests-{name}", "type": "charge_card", "needs": build["id"], "retry": {"max_retries": 1}}
        unit["with"] = {"customerId": name, "amount": amount}
        end = {"id": f"end-to-end-tests-{name}", "type": "resize_image", "needs": build["id"]}
        sign = {"id": f"sign-{name}", "type": "noop", "needs": [unit["id"], end["id"]], "compensate": {"type": "noop"}}
        steps += [image, build, unit, end, sign]
    return [
        *steps,
        {"id": "documentation", "type": "sync_crm", "needs": "dependencies", "with": {"pages": 12, "pause": 0.05}},
        {"id": "licences", "type": "noop", "needs": "dependencies"},
        {"id": "security-scan-of-all-dependencies", "type": "charge_card", "needs": "dependencies",
         "with": {"customerId": "scan", "decline": True}, "continue_on_error": True},
        {"id": "collect", "type": "noop", "needs": [*(f"sign-{name}" for name in PLATFORMS), "documentation"]},
        {"id": "sign-off", "type": "approval", "needs": ["collect", "licences", "security-scan-of-all-dependencies"]},
        {"id": "publish", "type": "noop", "needs": "sign-off"},
        {"id": "announce", "type": "noop", "needs": "publish"},
        {"id": "clean-up", "type": "noop", "needs": "announce"},
    ]  # fmt: skip


def furnish(shop: Shop) -> None:
    """Do the work of the day."""
    assert shop.api.put("/api/queues/imports/limits", json={"concurrency": 3, "rate": "100/m"}).is_success
    for width in range(24):
        shop.task("resize_image", {"width": 100 * width, "name": f"{width}.png"}, queue="pictures")
    for each in (shop.failed, shop.synced, shop.charged, shop.running, shop.approval, shop.undone):
        assert each
    shop.task("charge_card", {"customerId": "acme", "amount": 20_000}, queue="payments", maxRetries=5)
    for number in range(30):
        shop.task("noop", {"to": f"customer-{number}@example.com"}, queue="mail", delay=f"{number + 1}m")
    for number in range(9):
        shop.task("wait_for_import", {"seconds": 600}, queue="imports" if number < 3 else "crm", timeout="1h")
    for _ in range(3):
        shop.start("import")
    shop.post(f"/api/task/{shop.failed}/retry")
    shop.post("/api/schedules/monday-report/pause")
    assert until(lambda: shop.get(f"/api/runs/{shop.release}")["status"], lambda status: status == "failed")


def furnish_oddly(shop: Shop) -> None:
    """Add what a screen may not be ready for."""
    for customer in CUSTOMERS:
        declined = customer in CUSTOMERS[:3]
        shop.task("charge_card", {"customerId": customer, "amount": 4.5}, queue="payments")
        shop.task("charge_card", {"customerId": customer, "decline": declined}, queue="payments", maxRetries=1)
    nested = {"list": list(range(30)), "token": "secret", "empty": {}}
    shop.task("noop", {"x" * 60: "y" * 300, "nested": nested}, queue="mail")
    shop.task("noop", {"note": "\x1b[31mred\x1b[0m <b>bold</b>"}, queue=LONG, delay="1h")
    shop.task("compensation", {"month": "2026-11"}, queue="reports")
    shop.start("order", customerId="עומר", amount=12)
    shop.post("/api/queues/reports/pause")
