"""Definitions from files into the database: whole or not at all, and only what the set owns is removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from qw.client import Client
from qw.client.definitions import How
from qw.core.errors import Conflict, Invalid
from qw.core.queue.limits import Limits
from qw.core.task.payload import JsonObject
from qw.definitions import Definitions, loads
from qw.store import queues, runs, types
from qw.store.applied import of_kind
from qw.store.connection import Connection
from tests.client.driving import Driver, begun
from tests.given import column, value


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, size=2) as opened:
        yield opened


def file(*names: str, schedules: str = "", type: str = "noop", source: str = "f.yaml") -> Definitions:
    workflows = "".join(f"  {name}: {{steps: [{{id: a, type: {type}}}]}}\n" for name in names)
    return loads(f"workflows:\n{workflows}{schedules}", source)


NIGHTLY = "schedules:\n  nightly: {cron: '0 3 * * *', workflow: a}\n"


async def applied(client: Client, *files: Definitions, owner: str = "ours", **how: bool) -> dict[str, str]:
    found = await client.definitions.apply(files, owner=owner, by="zoe", **how)
    return {f"{one.kind} {one.name}": one.how.value for one in found.changes}


async def test_what_is_applied_is_there_and_again_changes_nothing(client: Client, conn: Connection) -> None:
    first = await applied(client, file("a", "b", schedules=NIGHTLY))
    again = await applied(client, file("a", "b", schedules=NIGHTLY))

    assert first == {"workflow a": "added", "workflow b": "added", "schedule nightly": "added"}
    assert set(again.values()) == {"unchanged"}
    assert [one.name for one in await client.workflows.all()] == ["a", "b"]
    assert (await client.schedules.get("nightly")).schedule.cron == "0 3 * * *"
    assert await value(conn, "select count(*) from qw.workflow_version") == 2


async def test_a_diff_shows_the_same_and_changes_nothing(client: Client, conn: Connection) -> None:
    await applied(client, file("a"))

    found = await client.definitions.diff([file("a", "b", type="data_processing")], owner="ours")

    assert [(one.name, one.how) for one in found.changes] == [("a", How.CHANGED), ("b", How.ADDED)]
    assert found.changes[0].before == {"steps": [{"id": "a", "type": "noop"}]}
    assert not found.is_empty
    assert [one.name for one in await client.workflows.all()] == ["a"]


async def test_who_applied_what_and_when_is_kept(client: Client) -> None:
    await applied(client, file("a"))
    await applied(client, file("a"))

    (entry,) = await client.definitions.history()

    assert (entry.owner, entry.by) == ("ours", "zoe")
    assert entry.changes == [{"kind": "workflow", "name": "a", "how": "added"}]


async def test_only_what_the_set_owns_is_pruned_and_only_when_asked(client: Client, conn: Connection) -> None:
    await runs.save_workflow(conn, "stranger", {"steps": [{"id": "a", "type": "noop"}]})
    await applied(client, file("theirs"), owner="theirs")
    await applied(client, file("a", "b", "c", schedules=NIGHTLY))
    await applied(client, file("c"), owner="theirs", take_over=True)

    left = await applied(client, file("b"))
    assert left == {"workflow a": "left", "workflow b": "unchanged", "schedule nightly": "left"}
    await applied(client, file("b"), prune=True)

    assert [one.name for one in await client.workflows.all()] == ["b", "c", "stranger", "theirs"]
    assert await client.schedules.page() == []
    assert await column(conn, "select name from qw.owned order by name") == ["b", "c", "theirs"]


async def test_a_pruned_workflow_lets_its_runs_go_on(client: Client, conn: Connection) -> None:
    await applied(client, file("a"))
    id = await begun(conn, "a")

    with pytest.raises(Conflict, match="workflow a is needed by 1 run of a in progress"):
        await applied(client, file("b"), prune=True)
    await applied(client, file("b"), prune=True, force=True)

    assert (await Driver(conn=conn).finish(id)).status == "completed"


ALL = """
workflows: {kid: {steps: [{id: a, type: noop}]}}
schedules: {tick: {every: 1h, type: noop}}
queues: {mail: {paused: true}}
commands: {backup: {argv: ["true"]}}
webhooks: {billing: {url: "http://y"}}
"""


async def test_what_another_set_owns_is_not_touched_unless_it_is_taken_over(client: Client, conn: Connection) -> None:
    await applied(client, loads(ALL), owner="theirs")

    found = await client.definitions.diff([loads(ALL)], owner="ours")
    with pytest.raises(Conflict) as refused:
        await applied(client, loads(ALL.replace("1h", "2h")))

    assert {one.taken_from for one in found.changes} == {"theirs"}
    assert not found.is_empty
    for what in ("workflow kid", "schedule tick", "queue mail", "command backup", "webhook billing"):
        assert f"{what} belongs to theirs" in str(refused.value)
    assert "--take-over" in str(refused.value)
    assert await column(conn, "select distinct owner from qw.owned") == ["theirs"]
    assert await value(conn, "select every from qw.schedule") == timedelta(hours=1)

    await applied(client, loads(ALL.replace("1h", "2h")), take_over=True)
    assert await column(conn, "select distinct owner from qw.owned") == ["ours"]
    assert await applied(client, loads("queues: {}"), owner="theirs", prune=True) == {}


CHILD = "workflows: {kid: {steps: [{id: a, type: noop}]}, other: {steps: [{id: a, type: noop}]}}\n"
CHILD += "commands: {backup: {argv: ['true']}, unused: {argv: ['true']}}"
PARENT = """
workflows:
  par:
    steps:
      - { id: s, type: noop }
      - { id: c, needs: s, type: workflow, with: { workflow: kid } }
    finally: [{ id: b, type: command, with: { command: backup } }]
schedules:
  hourly: { every: 1h, workflow: kid }
  nightly: { every: 1d, type: command, with: { command: backup } }
"""


async def test_what_is_still_needed_is_removed_by_force_only_and_what_runs_goes_on(
    client: Client, conn: Connection
) -> None:
    await applied(client, loads(CHILD), owner="child")
    await applied(client, loads(PARENT), owner="parent")
    id = await begun(conn, "par")
    less = loads("workflows: {other: {steps: [{id: a, type: noop}]}}")

    found = await client.definitions.diff([less], owner="child", prune=True)
    with pytest.raises(Conflict) as refused:
        await applied(client, less, owner="child", prune=True)

    needed = {one.name: one.needed_by for one in found.changes if one.how is How.REMOVED}
    assert needed == {
        "kid": ("workflow par", "schedule hourly", "1 run of par in progress"),
        "backup": ("workflow par", "schedule nightly", "1 run of par in progress"),
        "unused": (),
    }
    assert "workflow kid is needed by workflow par, schedule hourly, 1 run of par in progress" in str(refused.value)
    assert {one.name for one in await client.workflows.all()} == {"kid", "other", "par"}

    await applied(client, less, owner="child", prune=True, force=True)
    run = await Driver(conn=conn).finish(id)
    assert run.status == "completed"
    assert await value(conn, "select count(*) from qw.run where workflow = 'kid' and status = 'completed'") == 1
    later = await begun(conn, "par")
    assert "there is no active workflow 'kid'" in str((await Driver(conn=conn).finish(later)).error)


async def test_what_goes_together_is_not_needed(client: Client) -> None:
    both = loads(CHILD), loads(PARENT, "g.yaml")
    await applied(client, *both)

    gone = await applied(client, loads("queues: {}"), prune=True)

    assert set(gone.values()) == {"removed"}


async def test_a_file_that_is_wrong_anywhere_changes_nothing(client: Client) -> None:
    with pytest.raises(Invalid, match="schedule n starts 'unknown', which does not exist"):
        await applied(client, file("b", schedules="schedules:\n  n: {cron: '0 3 * * *', workflow: unknown}\n"))
    child = loads(
        "workflows: {a: {steps: [{id: x, type: workflow, with: {workflow: bb}}]}, b: {steps: [{id: x, type: noop}]}}"
    )
    with pytest.raises(Invalid, match="step x of workflow a starts 'bb', which does not exist; did you mean 'b'"):
        await applied(client, child)
    with pytest.raises(Invalid, match=r"g\.yaml: the workflow a is also defined in another of these files"):
        await applied(client, file("a"), file("a", source="g.yaml"))

    assert await client.workflows.all() == []


async def test_a_type_that_nobody_serves_yet_is_a_warning(client: Client, conn: Connection) -> None:
    found = await client.definitions.apply([file("a", type="resize")], owner="o", by="me")

    assert found.warnings == ["workflow a: no worker has registered the task type 'resize'"]
    await types.serve(conn, {})


async def test_a_daemons_file_never_brings_back_what_was_there_before(client: Client, conn: Connection) -> None:
    old: JsonObject = {"steps": [{"id": "old", "type": "noop"}]}
    new: JsonObject = {"steps": [{"id": "new", "type": "noop"}]}

    assert await runs.offer_workflow(conn, "w", old)
    assert await runs.offer_workflow(conn, "w", new)
    assert not await runs.offer_workflow(conn, "w", old)

    assert (await client.workflows.get("w")).document == new


REST = """
queues: {reports: {paused: true}, mail: {}}
commands: {backup: {argv: [pg_dump]}}
webhooks: {billing: {url: "http://x/hook", secret_env: BILLING}}
"""


async def test_queues_commands_and_webhooks_are_applied_with_the_rest(client: Client, conn: Connection) -> None:
    first = await applied(client, loads(REST))
    again = await applied(client, loads(REST))

    added = ["queue mail", "queue reports", "command backup", "webhook billing"]
    assert first == dict.fromkeys(added, "added")
    assert again == dict.fromkeys(added, "unchanged")
    (paused,) = await queues.paused(conn)
    assert (paused.name, paused.paused_by) == ("reports", "zoe")
    assert await of_kind(conn, "command") == {"backup": {"argv": ["pg_dump"]}}
    assert await of_kind(conn, "webhook") == {"billing": {"url": "http://x/hook", "secret_env": "BILLING"}}


async def test_a_queue_that_somebody_resumed_is_paused_again(client: Client, conn: Connection) -> None:
    await applied(client, loads(REST))
    await queues.resume(conn, "reports")

    found = await client.definitions.diff([loads(REST)], owner="ours")
    (change,) = [one for one in found.changes if one.how is How.CHANGED]
    assert (change.name, change.before, change.after) == ("reports", {"paused": False}, {"paused": True})
    await applied(client, loads(REST))

    assert [one.name for one in await queues.paused(conn)] == ["reports"]


LIMITED = "queues: {reports: {concurrency: 2, key: payload.customer, per_key: 1, rate: 60/1m}}"


async def test_limits_are_applied_to_what_waits_already(client: Client, conn: Connection) -> None:
    for _ in range(3):
        await client.enqueue("noop", {"customer": "zoe"}, queue="reports")

    first, again = await applied(client, loads(LIMITED)), await applied(client, loads(LIMITED))

    assert (first, again) == ({"queue reports": "added"}, {"queue reports": "unchanged"})
    assert {name: str(one) for name, one in (await queues.limits(conn)).items()} == {
        "reports": "2 at once, 60/m, 1 at once per customer"
    }
    assert await column(conn, "select count(*) from qw.held") == [3]
    await client.queues.limit("reports", Limits(concurrency=9))
    found = await client.definitions.diff([loads(LIMITED)], owner="ours")
    assert [(one.how, one.before) for one in found.changes] == [(How.CHANGED, {"concurrency": 9})]

    await applied(client, loads("queues: {}"), prune=True)

    assert await queues.limits(conn) == {}
    assert await column(conn, "select count(*) from qw.ready") == [3]


async def test_limits_that_a_file_does_not_name_are_left(client: Client, conn: Connection) -> None:
    await client.queues.limit("mail", Limits(concurrency=9))

    await applied(client, loads(REST))

    assert (await queues.limits(conn))["mail"] == Limits(concurrency=9)


async def test_a_file_that_does_not_say_whether_a_queue_is_paused_leaves_it(client: Client, conn: Connection) -> None:
    await applied(client, loads(REST))
    await queues.pause(conn, "mail", by="max")

    changed = await applied(client, loads(REST.replace("{paused: true}", "{}")))

    assert changed == {
        "queue mail": "unchanged",
        "queue reports": "changed",
        "command backup": "unchanged",
        "webhook billing": "unchanged",
    }
    assert {one.name for one in await queues.paused(conn)} == {"mail", "reports"}


async def test_what_is_pruned_of_the_rest_is_gone_and_a_queue_runs_again(client: Client, conn: Connection) -> None:
    await applied(client, loads("webhooks: {theirs: {url: 'http://y'}}"), owner="theirs")
    await applied(client, loads(REST))

    await applied(client, loads("queues: {mail: {}}"), prune=True)

    assert await queues.paused(conn) == []
    assert await column(conn, "select kind || ' ' || name from qw.owned order by 1") == ["queue mail", "webhook theirs"]


async def test_what_only_daemons_read_is_said(client: Client) -> None:
    found = await client.definitions.diff([loads(REST + "remote: {ocr: }", "f.yaml")], owner="ours")

    assert found.warnings == [
        "webhooks: no running daemon delivers events yet; daemons started from now on will",
        "f.yaml: remote: is not applied; each daemon reads this section from its own file",
    ]
