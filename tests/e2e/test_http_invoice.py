"""The invoice chain, from an HTTP request to the mail; and what is left when a service of it is down."""

from __future__ import annotations

import email
import os
import socket
import time
from pathlib import Path

import pytest

from tests.processes import slowed
from tests.web.live import live, until


def test_an_invoice_by_http_is_in_the_outbox_in_a_moment(url: str, tmp_path: Path) -> None:
    with live(url, {"QW_OUTPUT_DIR": str(tmp_path)}, daemon=True) as started:
        seconds = []
        for name in ("zoe", "eleni", "acme"):
            began = time.monotonic()
            task = started.post("/api/invoice/workflow/start", {"customerId": name})["taskId"]
            run = started.get(f"/api/task/{task}")["runId"]
            until(lambda run=run: started.get(f"/api/runs/{run}")["status"] == "completed")  # type: ignore[misc]
            seconds.append(time.monotonic() - began)

    mails = [email.message_from_bytes(path.read_bytes()) for path in tmp_path.rglob("*.eml")]
    assert len(mails) == 3
    assert f"customer-{name}@example.com" in {mail["To"] for mail in mails}
    assert sorted(mail["Subject"].partition(" ")[0] for mail in mails) == ["Invoice", "Invoice", "Rechnung"]
    assert len({mail["Subject"].partition(" INV-")[2] for mail in mails}) == 3
    assert min(seconds) < slowed(1)  # 0.1 s on a quiet machine


def test_a_chain_whose_service_is_down_is_undone_by_one_compensation(url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    environ = {"QW_OUTPUT_DIR": str(tmp_path), "QW_PDF_URL": f"http://127.0.0.1:{port}/pdf"}
    with live(url, environ, daemon=True) as started:
        name = "ivan"
        task = started.post("/api/invoice/workflow/start", {"customerId": name})["taskId"]
        run = started.get(f"/api/task/{task}")["runId"]

        done = until(lambda: started.get(f"/api/runs/{run}"), lambda run: run["status"] == "failed")
        tasks = started.get(f"/api/task?limit=100&workflowId={done['workflowId']}")["tasks"]

    assert "PDF generation failed" in done["error"]
    (undone,) = [task for task in tasks if task["type"] == "compensation"]
    assert undone["status"] == "completed"
    assert undone["payload"]["customerId"] == name
    assert undone["payload"]["originalTaskType"] == "generate_pdf"
    assert not [task for task in tasks if task["type"] == "send_email"]


def test_a_token_is_not_in_the_environment_of_a_command(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QW_API_TOKENS", "ann:admin:s3cret-of-ann")
    seen = tmp_path / "seen"
    workflow = f"commands: {{look: {{argv: [sh, -c, 'env > {seen}']}}}}"
    environ = {"QW_API_TOKENS": os.environ["QW_API_TOKENS"]}

    with live(url, environ, daemon=True, definitions=workflow) as started:
        started.api.headers["Authorization"] = "Bearer s3cret-of-ann"
        id = started.task("command", {"command": "look"})
        ended = started.final(id)

    assert ended["status"] == "completed", ended
    assert "QW_TASK_ID" in seen.read_text()
    assert "s3cret-of-ann" not in seen.read_text()
