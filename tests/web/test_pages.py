"""The files of the dashboard: where they are served, under which policy, and that they stay what was vendored."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from qw.client import Client
from qw.config import Settings
from qw.web import application
from qw.web.assets import MEDIA, Assets
from qw.web.pages import BASE, FOLDER
from tests.web.live import Live

VENDOR = FOLDER / "vendor"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())


@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*", "image/*;q=0", "nonsense", ""])
@pytest.mark.parametrize("path", ["/", "/ui", "/ui/", "/ui/tasks", "/ui/task/0192"])
def test_a_browser_gets_the_page_whatever_it_accepts(server_shared: Live, path: str, accept: str) -> None:
    answer = server_shared.api.get(path, headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>qw" in answer.text


def test_a_page_runs_nothing_that_does_not_come_from_its_own_server(server_shared: Live) -> None:
    for name in ["", "docs", *(f"ui/{name}" for name in FILES if name.endswith((".html", ".js", ".css")))]:
        headers = server_shared.api.get(f"/{name}").headers

        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/", "./"), ("/ui", "./"), ("/ui/", "../"), ("/ui/tasks", "../"), ("/ui/task/a%2Fb", "../../"),
        ("/ui/a/b/", "../../../"), ("/ui/queues/mail.eu", "../../"),
    ],
)  # fmt: skip
def test_a_page_finds_the_root_from_wherever_it_was_asked_for(server_shared: Live, path: str, base: str) -> None:
    text = server_shared.api.get(path).text

    assert re.findall(r'<base href="([^"]*)">', text) == [base]
    assert httpx.URL(f"http://proxy/prefix{path}").join(base) == "http://proxy/prefix/"


def test_a_page_has_a_base_and_names_nothing_by_an_absolute_path() -> None:
    for page in ("index.html", "docs.html"):
        text = (FOLDER / page).read_text()

        assert text.count(BASE) == 1
        assert not re.findall(r'(?:href|src)="/', text.replace(BASE, ""))


async def test_under_a_mount_pages_and_api_answer_below_it(url: str) -> None:
    async with Client(url, size=2) as client:
        app = Starlette(routes=[Mount("/tools/qw", application(client, Settings()))])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            page, view = await http.get("/tools/qw/"), await http.get("/tools/qw/ui/tasks")
            api, elsewhere = await http.get("/tools/qw/api/task/"), await http.get("/ui/tasks")

    assert (page.status_code, view.status_code, api.status_code, elsewhere.status_code) == (200, 200, 200, 404)
    assert '<base href="./">' in page.text
    assert '<base href="../">' in view.text


def test_a_file_is_sent_again_only_when_it_changed(server_shared: Live) -> None:
    first = server_shared.api.get("/ui/tasks")
    again = server_shared.api.get("/ui/tasks", headers={"If-None-Match": first.headers["etag"]})
    other = server_shared.api.get("/ui/task/1", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200  # its way to the root is another


@pytest.mark.parametrize(
    "path",
    [
        "/ui/nope.js", "/ui/../guard.py", "/ui/%2e%2e/guard.py", "/ui/..%2fguard.py", "/ui/vendor",
        "/ui/../../handlers/fonts/VENDOR.json", "/ui/%2e%2e/%2e%2e/handlers/fonts/VENDOR.json",
    ],
)  # fmt: skip
def test_nothing_but_the_files_of_the_dashboard_is_served(server_shared: Live, path: str) -> None:
    answer = asked_for(server_shared, path)

    assert b"404 Not Found" in answer or b"<title>" in answer
    assert b"import" not in answer
    assert b"dejavu" not in answer


def test_what_a_browser_opens_as_a_page_is_one_whatever_its_name(server_shared: Live) -> None:
    opened = server_shared.api.get("/ui/queues/mail.js", headers={"Sec-Fetch-Dest": "document"})
    loaded = server_shared.api.get("/ui/queues/mail.js", headers={"Sec-Fetch-Dest": "script"})

    assert (opened.status_code, loaded.status_code) == (200, 404)


def asked_for(server: Live, path: str) -> bytes:
    """What is answered to a path that no client would send as it is."""
    with socket.create_connection(("127.0.0.1", server.port)) as conn:
        conn.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: conn.recv(65536), b""))


def test_every_file_has_a_media_type_and_is_served() -> None:
    assert [name for name in FILES if "." + name.rpartition(".")[2] not in {*MEDIA, ".LICENSE"}] == []


@pytest.mark.skipif(not VENDOR.exists(), reason="nothing is vendored")
def test_vendored_files_are_what_the_list_says() -> None:
    packages: list[Any] = json.loads((VENDOR / "vendor.json").read_text())
    listed = {file["file"]: file["sha256"] for package in packages for file in package["files"]}
    there = {
        str(p.relative_to(VENDOR)): hashlib.sha256(p.read_bytes()).hexdigest() for p in VENDOR.rglob("*") if p.is_file()
    }

    del there["vendor.json"]
    assert there == listed
    for package in packages:
        assert package["name"]
        assert package["version"]
        assert package["license"]
        assert package["integrity"].startswith("sha512-")
        assert any("LICENSE" in file["file"] for file in package["files"])


@pytest.mark.parametrize(
    ("path", "own"), [("/", "overview"), ("/ui/tasks", "tasks"), ("/ui/tasks/42", "task"), ("/ui/nothing", None)]
)
def test_a_page_asks_at_once_for_every_module_that_it_imports(server_shared: Live, path: str, own: str | None) -> None:
    page = server_shared.api.get(path).text
    modules, queue = set[Path](), [FOLDER / "main.js", *([FOLDER / f"screens/{own}.js"] if own else [])]
    while queue:
        module = queue.pop()
        modules.add(module)
        names = re.findall(r'^(?:import|export) [^;]*?from "(.+?)";', module.read_text(), re.MULTILINE)
        found = {(module.parent / name).resolve() for name in names} - modules
        queue += [each for each in found if each.parent != VENDOR]
        modules |= found

    preloaded = {FOLDER / path for path in re.findall(r'"modulepreload" href="ui/@\w+/(.+?)"', page)}

    assert modules <= preloaded
    assert all(each.exists() for each in preloaded)


def test_a_browser_keeps_the_files_of_a_page_until_one_changes(server_shared: Live, tmp_path: Path) -> None:
    page = server_shared.api.get("/ui/tasks").text
    files = re.findall(r'(?:href|src)="(ui/[^"]+)"', page)

    assert all("immutable" in server_shared.api.get(f"/{file}").headers["cache-control"] for file in files)
    assert server_shared.api.get("/ui/@0123/app.css").headers["cache-control"] == "no-cache"
    assert server_shared.api.get("/ui/app.css").headers["cache-control"] == "no-cache"
    (tmp_path / "a.js").write_text("1")
    before = Assets(tmp_path).version
    (tmp_path / "a.js").write_text("2")
    assert Assets(tmp_path).version != before
