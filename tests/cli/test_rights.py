"""Every verb under every right: the table of docs/rights.md, as people meet it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from qw.client import Client
from qw.core.errors import Conflict, LacksRight
from qw.core.rights import VERBS, Right
from qw.store.ids import new_id
from tests.cli.commands import all_commands
from tests.cli.program import Done, Qw, environment
from tests.databases import Template, wait_until
from tests.store.test_rights import NOBODY, as_role, grant_all, role, roles

WORKFLOW = """
version: 1
workflows:
  one: {steps: [{id: a, type: noop}]}
  two: {steps: [{id: paid, type: wait_signal, with: {signal: paid}}]}
queues:
  mail: {paused: true}
"""
ID = "01890000-0000-7000-8000-000000000000"  # of nothing
NEEDS_NONE = {
    "completion", "config show", "help", "init", "man", "db rights", "db sql", "db start", "db stop", "demo",
    "service install", "workflow graph", "workflow import", "workflow plan", "workflow schema", "workflow test",
    "workflow validate",
}  # fmt: skip

COMMANDS = {
    "enqueue": "noop",
    "workflow start": "one",
    "status": "",
    "top": "--once",
    "audit": "",
    "logs": ID,
    "why": ID,
    "wait": ID,
    "diff": "-f w.yaml",
    "doctor": "",
    "task list": "",
    "task show": ID,
    "task logs": ID,
    "task why": ID,
    "workflow list": "",
    "workflow runs": "",
    "workflow show": "one",
    "schedule list": "",
    "schedule show": "s",
    "schedule next": "s",
    "queue list": "",
    "worker list": "",
    "worker show": "1",
    "events tail": "--since 1h",
    "events blocked": "",
    "events state": "",
    "db status": "",
    "run": "-- true",
    "apply": "-f w.yaml",
    "task stack": "{task}",
    "task retry": ID,
    "task cancel": ID,
    "task compensate": ID,
    "task requeue": ID,
    "task signal": f"{ID} paid",
    "task edit": "{task} -p 1",
    "task move": f"--front {ID}",
    "task forget": ID,
    "workflow signal": "{run} paid",
    "workflow approve": ID,
    "workflow reject": ID,
    "workflow retry": ID,
    "workflow cancel": ID,
    "workflow compensation-done": f"{ID} a",
    "schedule add": "more --every 1h --type noop",
    "schedule pause": "s",
    "schedule resume": "s",
    "schedule trigger": "s",
    "schedule backfill": "s --since 2h --yes",
    "schedule remove": "gone",
    "schedule import crontab": "crontab --yes",
    "queue show": "mail",
    "queue remove": "mail",
    "queue pause": "mail",
    "queue resume": "mail",
    "queue limit": "mail --concurrency 3",
    "queue purge": "mail --yes",
    "queue drain": "mail --timeout 100ms",
    "worker drain": "1",
    "events replay": "--since 1h",
    "events drop": "1",
    "db grant": f"{role(NOBODY)} read",
    "db revoke": f"{role(Right.READ)} read",
}
APART = {"daemon", "api", "ui", "db migrate"}  # they stay: see below; or there is nothing to do
OTHERS = ("task edit", "task stack")  # these look for the task first, and such a role sees only its own
OWN = ("wait", "logs", "task logs", "task show")  # who may only enqueue may this with its own tasks


@pytest.fixture(scope="module")
def granted(migrated_template: Template) -> Iterator[str]:
    with migrated_template.clone() as url, roles(url):
        asyncio.run(grant_all(url))
        yield url


@pytest.fixture(scope="module")
def folder(granted: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the verbs are called, with what they ask for; a workflow and a schedule are in the database."""
    made = tmp_path_factory.mktemp("rights")
    (made / "w.yaml").write_text(WORKFLOW)
    (made / "crontab").write_text("0 4 * * * true\n")
    owner = qw_of(granted, made)
    assert owner("apply", "-f", "w.yaml").code == 0
    assert owner(*["schedule", "add", "s", "--every", "1h", "--type", "noop"]).code == 0
    ids = {"task": owner("enqueue", "noop", "--in", "1h"), "run": owner("workflow", "start", "two")}
    (made / "ids.json").write_text(json.dumps({name: str(done.id) for name, done in ids.items()}))
    return made


def qw_of(url: str, folder: Path) -> Qw:
    return Qw(environment(QW_DATABASE_URL=url, QW_HOME=str(folder / "home"), HOME=str(folder)), folder)


def called(granted: str, folder: Path, right: str, verb: str) -> Done:
    if verb == "queue purge":
        qw_of(granted, folder)("enqueue", "noop", "--queue", "mail")
    words = COMMANDS[verb].format(**json.loads((folder / "ids.json").read_text())).split()
    return qw_of(as_role(granted, right), folder)(*verb.split(), *words)


def able(verb: str) -> set[Right]:
    also = {Right.READ} if verb == "db status" else {Right.WORK} if verb == "run" else set()
    return also | {right for right in Right if VERBS[verb] in right.includes}


def test_every_verb_has_its_right() -> None:
    assert {" ".join(path) for path, _ in all_commands()} == set(VERBS) | NEEDS_NONE
    assert set(COMMANDS) | APART == set(VERBS)


def test_the_table_in_the_documentation_is_what_holds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rights.md").read_text()
    rows = dict(re.findall(r"^\| `qw ([a-z -]+)` \| (.*) \|$", page, re.MULTILINE))

    def cell(verb: str, right: Right) -> str:
        return "own" if right is Right.ENQUEUE and verb in OWN else "yes" if right in able(verb) else ""

    shown = {verb: [text.strip() for text in row.split("|")] for verb, row in rows.items()}
    assert shown == {verb: [cell(verb, right) for right in Right] for verb, needed in VERBS.items() if needed}


@pytest.mark.parametrize(
    ("verb", "right"), [(verb, right) for verb in COMMANDS for right in Right if right in able(verb)]
)
def test_a_verb_works_with_its_right(granted: str, folder: Path, verb: str, right: Right) -> None:
    done = called(granted, folder, right, verb)

    assert done.code in (0, 1, 3, 4, 124), done.err  # not there, in the wrong state, too slow: all this, but not denied
    assert "right" not in done.err
    assert "permission" not in done.err


@pytest.mark.parametrize(
    ("verb", "right"),
    [(verb, right) for verb in COMMANDS for right in (*Right, NOBODY) if right not in able(verb) and verb != "doctor"],
)
def test_a_verb_names_the_right_that_is_lacking(granted: str, folder: Path, verb: str, right: str) -> None:
    if verb == "task stack" or (right == Right.ENQUEUE and verb in (*OWN, *OTHERS)):
        assert called(granted, folder, right, verb).code in (3, 4, 5)  # of its own tasks it may, or of running ones
        return

    done = called(granted, folder, right, verb)

    needed = VERBS[verb]
    assert done.code == 5, done.err
    if needed is None:
        assert re.search(rf"role {role(right)} .*\(needed for {verb}\).* only the owner of schema qw may", done.err)
    else:
        remedy = f"the owner grants it with: qw db grant {role(right)} {needed}"
        assert done.err == f"qw: role {role(right)} lacks the right '{needed}' (needed for {verb}); {remedy}\n"


def test_who_may_only_enqueue_waits_for_its_own_tasks(granted: str, folder: Path) -> None:
    qw = qw_of(as_role(granted, Right.ENQUEUE), folder)
    id = qw("enqueue", "noop", "--key", "mine").out.strip()

    assert qw("enqueue", "noop", "--key", "mine").code == 4
    assert qw("enqueue", "noop", "--key", "mine", "--on-conflict", "skip").out.strip() == id
    assert qw("enqueue", "noop", "--id", id).code == 0
    assert qw("wait", id, "--timeout", "100ms").code == 124
    assert qw("logs", id).code == 0
    lines = '{"payload": {"n": 1}}\n{"payload": {"n": 2}, "in": "1h"}\n'
    assert qw("enqueue", "noop", "--stdin", stdin=lines).code == 0
    assert qw("enqueue", "nothing_like_it").code == 2
    assert qw("workflow", "start", "one", "--id", str(new_id())).code == 0


def test_the_doctor_tells_what_a_role_that_may_only_enqueue_cannot_see(granted: str, folder: Path) -> None:
    done = called(granted, folder, Right.ENQUEUE, "doctor")

    assert done.code == 0, done.out
    assert re.search(r"^ok +rights .*may not look at workers, queues and schedules", done.out, re.MULTILINE)


def test_a_daemon_works_with_the_right_to_work(granted: str, folder: Path) -> None:
    qw = qw_of(as_role(granted, Right.WORK), folder)
    enqueuer = qw_of(as_role(granted, Right.ENQUEUE), folder)

    with qw.daemon("--no-http") as daemon:
        id = enqueuer("enqueue", "noop").out.strip()
        run = enqueuer("workflow", "start", "one").out.strip()
        assert enqueuer("wait", id, "--timeout", "20s").code == 0
        with psycopg.connect(granted, autocommit=True) as conn:
            done = "select 1 from qw.run where id = %s and status = 'completed'"
            wait_until(lambda: conn.execute(done, (run,)).fetchone())
            wait_until(lambda: conn.execute("select 1 from qw.measure").fetchone() is not None)
        assert daemon.poll() is None


@pytest.mark.parametrize("right", [Right.ENQUEUE, Right.READ, Right.OPERATE])
def test_a_daemon_without_the_right_to_work_says_so(granted: str, folder: Path, right: Right) -> None:
    done = qw_of(as_role(granted, right), folder).process("daemon", "--no-http")

    assert done.code == 5
    assert (
        f"lacks the right 'work' (needed for daemon); the owner grants it with: qw db grant {role(right)} work"
        in done.err
    )


async def test_a_program_is_told_which_right_it_lacks(granted: str) -> None:
    async with Client(as_role(granted, Right.READ)) as client:
        with pytest.raises(LacksRight, match="lacks the right 'enqueue'"):
            await client.enqueue("noop")
        with pytest.raises(LacksRight, match="lacks the right 'operate'"):
            await client.tasks.cancel([new_id()])
        with pytest.raises(LacksRight, match="lacks the right 'operate'"):
            await client.schedules.pause("s")
    async with Client(as_role(granted, Right.ENQUEUE)) as client:
        with pytest.raises(LacksRight, match="lacks the right 'operate'"):
            await client.enqueue("command", {"argv": ["true"]})
        with pytest.raises(LacksRight, match="lacks the right 'read'"):
            await client.queues.stats()


async def test_what_was_not_granted_cannot_be_revoked(granted: str) -> None:
    async with Client(granted) as client:
        with pytest.raises(Conflict, match=r"was not granted 'read'; its right 'operate' includes that"):
            await client.rights.revoke(role(Right.OPERATE), "read")
