"""Requests made up from the OpenAPI document: no undocumented status, no 500, no answer that its schema forbids.

The seed is fixed, and the other spelling of the task routes is left out: some fifteen seconds on an idle machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.web.live import Live

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "negative_data_rejection", "ignored_auth",
)  # fmt: skip


@pytest.mark.timeout(400)
@pytest.mark.parametrize("phase", ["fuzzing", pytest.param("coverage", marks=pytest.mark.slow)])
def test_no_made_up_request_is_answered_against_the_document(
    server_with_daemon: Live, tmp_path: Path, phase: str
) -> None:
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{server_with_daemon.base}/openapi.json",
        "--checks", ",".join(CHECKS), "--phases", phase, "--max-examples", "5", "--continue-on-failure",
        "--exclude-path", "/api/events", "--exclude-path-regex", "^/api/tasks",
        "--request-timeout", "30", "--seed", "5", "--generation-database", "none", "--no-color",
    ]  # fmt: skip

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=380)

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
