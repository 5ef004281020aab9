"""The calls of the HTTP API in the documents, run as they stand there against a daemon; only the port is another."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.program import Qw, environment
from tests.databases import wait_until
from tests.processes import free_port

if TYPE_CHECKING:
    from tests.databases import Template

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "docs/http.md")
PORT = "localhost:3030"
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def calls(text: str) -> list[tuple[str, str]]:
    """Every ``$ curl`` line of a document, with what it prints according to that; empty where nothing is shown."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for call in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = call.partition("\n")
            if line.startswith("curl "):
                found.append((line, shown.strip()))
    return found


@pytest.fixture(scope="module")
def port(migrated_template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """That of a daemon's own."""
    folder = tmp_path_factory.mktemp("documents")
    port = str(free_port())
    with migrated_template.clone() as url:
        qw = Qw(environment(QW_DATABASE_URL=url, HOME=str(folder), QW_OUTPUT_DIR=str(folder)), folder)
        with qw.started("daemon", "--port", port):
            wait_until(lambda: is_well(port))
            yield port


def is_well(port: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://localhost:{port}/api/health").status_code == 200
    return False


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_calls_in_a_document_do_what_it_shows(port: str, name: str, tmp_path: Path) -> None:
    (tmp_path / ".curlrc").write_text("fail-with-body\n")  # so that an error shows where no output is
    found = calls((CHECKOUT / name).read_text())

    assert found
    for line, shown in found:
        assert PORT in line
        words = ["sh", "-c", line.replace(PORT, f"localhost:{port}")]
        done = subprocess.run(
            words, env=environment(CURL_HOME=str(tmp_path)), capture_output=True, text=True, timeout=60
        )
        if shown:
            assert ID.sub("ID", done.stdout.strip()) == ID.sub("ID", shown), line
        else:
            assert done.returncode == 0, (line, done.stdout)
