"""Every verb under every right: the table of docs/rights.md, as people meet it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from qw.client import Client
from qw.core.errors import Conflict, LacksRight
from qw.core.rights import Right
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
VERBS = {" ".join(path): command for path, command in all_commands() if getattr(command, "rights", ())}
NEEDS_NONE = {
    "completion", "config show", "help", "init", "man", "db rights", "db sql", "db start", "db stop", "demo",
    "service install", "workflow graph", "workflow import", "workflow plan", "workflow schema", "workflow test",
    "workflow validate",
}  # fmt: skip
APART = {"daemon", "api", "ui", "db migrate"}  # they stay: see below; or there is nothing to do
CALLED = [verb for verb in VERBS if verb not in APART]
OTHERS = ("task edit", "task stack")  # these look for the task first, and such a role sees only its own

WORDS = {  # of the verbs that take more than their arguments, or others than ARGUMENTS says
    "worker slots": "3",
    "enqueue": "noop",
    "top": "--once",
    "diff": "-f w.yaml",
    "events tail": "--since 1h",
    "run": "-- true",
    "apply": "-f w.yaml",
    "task stack": "{task}",
    "task edit": "{task} -p 1",
    "task move": f"--front {ID}",
    "workflow signal": "{run} paid",
    "workflow start": "one",
    "schedule add": "more --every 1h --type noop",
    "schedule backfill": "s --since 2h --yes",
    "schedule remove": "gone",
    "schedule import crontab": "crontab --yes",
    "queue limit": "mail --concurrency 3",
    "queue purge": "letters --yes",
    "queue remove": "old",
    "queue drain": "mail --timeout 100ms",
    "events replay": "--since 1h",
    "events drop": "1",
    "db grant": f"{role(NOBODY)} read",
    "db revoke": f"{role(Right.READ)} read",
}
ARGUMENTS = {"ID": ID, "RUN": ID, "RUN|NAME": "one", "NAME": "s", "QUEUE": "mail", "WORKER": "1", "STEP": "a"}


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
        qw_of(granted, folder)("enqueue", "noop", "--queue", "letters")
    if verb == "queue remove":
        qw_of(granted, folder)("queue", "pause", "old", "--create")
    words = words_of(verb).format(**json.loads((folder / "ids.json").read_text())).split()
    return qw_of(as_role(granted, right), folder)(*verb.split(), *words)


def words_of(verb: str) -> str:
    params = [param for param in VERBS[verb].params if param.param_type_name == "argument"]
    return WORDS[verb] if verb in WORDS else " ".join(ARGUMENTS[param.metavar.strip("[].")] for param in params)


def able(verb: str) -> set[Right]:
    return {right for right in Right if right.includes & set(VERBS[verb].rights)}


def test_every_verb_has_its_right() -> None:
    assert {" ".join(path) for path, _ in all_commands()} - VERBS.keys() == NEEDS_NONE
    assert all(words_of(verb) is not None for verb in CALLED)


def test_the_table_in_the_documentation_is_what_holds() -> None:
    script = Path(__file__).parents[2] / "scripts" / "tables"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)

    assert done.stderr == ""


def case(verb: str, right: str, *, slow: bool) -> Any:
    return pytest.param(verb, right, marks=pytest.mark.slow if slow else ())


def lacking(verb: str) -> list[str]:
    """The roles that may not call *verb*; that which may most is the last."""
    return [right for right in (NOBODY, *Right) if right not in able(verb)]


@pytest.mark.parametrize(
    ("verb", "right"),
    [
        case(verb, right, slow=right not in VERBS[verb].rights)
        for verb in CALLED
        for right in Right
        if right in able(verb)
    ],
)
def test_a_verb_works_with_its_right(granted: str, folder: Path, verb: str, right: Right) -> None:
    done = called(granted, folder, right, verb)

    assert done.code in (0, 1, 3, 4, 124), done.err  # not there, in the wrong state, too slow: all this, but not denied
    assert "right" not in done.err
    assert "permission" not in done.err


@pytest.mark.parametrize(
    ("verb", "right"),
    [
        case(verb, right, slow=right != lacking(verb)[-1])
        for verb in CALLED
        if verb != "doctor"
        for right in lacking(verb)
    ],
)
def test_a_verb_names_the_right_that_is_lacking(granted: str, folder: Path, verb: str, right: str) -> None:
    if verb == "task stack" or (right == Right.ENQUEUE and (VERBS[verb].own or verb in OTHERS)):
        assert called(granted, folder, right, verb).code in (3, 4, 5)  # of its own tasks it may, or of running ones
        return

    done = called(granted, folder, right, verb)

    needed = VERBS[verb].rights[0]
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
    assert re.search(r"^ok +rights .*cannot read workers, queues and schedules", done.out, re.MULTILINE)


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
