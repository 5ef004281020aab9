"""What `qw apply` brings into the database, and what running daemons make of it."""

from __future__ import annotations

import hmac
import json
import signal
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue
from tests.e2e.test_webhooks import Receiver, receiver

__all__ = ["receiver"]

Apply = Callable[..., None]


@pytest.fixture
def apply(url: str, tmp_path: Path) -> Apply:
    """Applies the text of a file, as a process of its own."""
    from tests.cli.program import Qw, environment

    program = Qw(environment(QW_DATABASE_URL=url), tmp_path)

    def run(text: str, *words: str) -> None:
        (tmp_path / "applied.yaml").write_text(text)
        done = program.process("apply", "-f", "applied.yaml", *words)
        assert done.code == 0, done.err

    return run


def test_a_webhook_applied_while_a_daemon_runs_is_told_and_signed(
    queue: Queue, daemons: Daemons, receiver: Receiver, apply: Apply, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("the key\n")
    daemons(QW_EVENT_LOG="1h", QW_HTTP_ALLOW="127.0.0.1", BILLING_FILE=str(key)).ready()

    apply(f"webhooks: {{billing: {{url: '{receiver.url}', events: [task.completed], secret_env: BILLING}}}}")
    wait_until(lambda: queue.put("noop") and queue.value("select count(*) from qw.task where queue = 'webhooks'"))
    wait_until(lambda: len(receiver.got) > 0)

    headers, body = receiver.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = b64encode(hmac.new(b"the key", signed, sha256).digest()).decode()
    assert json.loads(body)["type"] == "qw.task.completed.v1"
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert "the key" not in str(queue.column("select document::text from qw.owned"))


def test_a_daemon_without_the_key_does_not_send_unsigned(
    queue: Queue, daemons: Daemons, receiver: Receiver, apply: Apply
) -> None:
    apply(f"webhooks: {{billing: {{url: '{receiver.url}', events: [task.completed], secret_env: BILLING}}}}")
    daemons(QW_HTTP_ALLOW="127.0.0.1").ready()

    queue.put("noop")
    wait_until(lambda: queue.value("select count(*) from qw.tasks where queue = 'webhooks' and retries > 0"))

    assert receiver.got == []
    assert "BILLING" in queue.value("select error from qw.attempt")


def test_an_applied_command_runs_only_where_commands_of_the_database_are_allowed(
    queue: Queue, daemons: Daemons, apply: Apply
) -> None:
    apply("commands: {greet: {argv: [echo, hello]}}")
    wary = daemons().ready()
    refused = queue.put_one("command", command="greet")
    queue.wait_for([refused], "failed")
    wary.kill()

    daemons("--allow-commands").ready()
    done = queue.put_one("command", command="greet")
    queue.wait_for([done], "completed")

    assert "--allow-commands" in queue.field(refused, "error")
    assert queue.field(done, "result")["stdout"] == "hello\n"


def test_a_daemons_own_command_stands_before_the_applied_one(
    queue: Queue, daemons: Daemons, apply: Apply, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("commands: {greet: {argv: [echo, own]}}\n")
    apply("commands: {greet: {argv: [echo, applied]}}")
    daemons("--allow-commands", "--workflows", str(own)).ready()

    done = queue.put_one("command", command="greet")
    queue.wait_for([done], "completed")

    assert queue.field(done, "result")["stdout"] == "own\n"


def test_a_file_that_is_read_again_changes_workflows_commands_and_webhooks(
    queue: Queue, daemons: Daemons, receiver: Receiver, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("commands: {greet: {argv: [echo, one]}}\n")
    daemon = daemons("--workflows", str(file), QW_EVENT_LOG="1h", QW_HTTP_ALLOW="127.0.0.1").ready()

    file.write_text(
        f"webhooks: {{all: {{url: '{receiver.url}', events: [task.completed]}}}}\n"
        "commands: {greet: {argv: [echo, two]}}\nworkflows: {new: {steps: [{id: a, type: noop}]}}\n"
    )
    daemon.send(signal.SIGHUP)
    wait_until(lambda: queue.value("select exists (select 1 from qw.workflow where name = 'new')"))

    def greeted() -> bool:
        task = queue.put_one("command", command="greet")
        queue.wait_for([task], "completed")
        return bool(queue.field(task, "result")["stdout"] == "two\n")

    wait_until(greeted)
    wait_until(lambda: queue.put("noop") and len(receiver.got) > 0)


def test_daemons_with_other_files_leave_a_workflow_as_it_was_applied(
    queue: Queue, daemons: Daemons, apply: Apply, tmp_path: Path
) -> None:
    text = "workflows: {w: {steps: [{id: %s, type: noop}]}}\n"
    apply(text % "applied")
    for name in ("one", "two"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text % name)
        daemon = daemons("--workflows", str(file)).ready()
        assert [line["workflow"] for line in daemon.said("workflow not stored: it is managed by qw apply")] == ["w"]

    version = "select document #>> '{steps,0,id}' from qw.workflow w join qw.workflow_version v on v.id = w.version"
    assert queue.value(version + " where name = 'w'") == "applied"
