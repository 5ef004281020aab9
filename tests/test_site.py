"""The documentation as a site: it builds without a broken link, and its lists are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import qw
from qw.core.errors import QwError
from tests.cli.commands import all_commands

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def subclasses(kind: type[QwError]) -> set[type[QwError]]:
    return {kind}.union(*(subclasses(one) for one in kind.__subclasses__()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_and_no_link_is_broken(site: Path) -> None:
    pages = {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md") if path.stem != "README"}

    assert pages <= {str(path.relative_to(site)) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_the_page_of_the_command_line_has_every_command(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (site / "cli.html").read_text())

    for words, _ in all_commands():
        assert f"qw {' '.join(words)}" in page


@pytest.mark.slow
def test_the_reference_has_the_signature_of_what_it_names(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (site / "reference.html").read_text())

    for name in ("enqueue", "Client", "Handlers", "Context", "assert_enqueued", "TaskFailed"):
        assert name in page
    assert "capture_logging" in page


@pytest.mark.slow
def test_the_site_asks_no_other_host_for_fonts_or_scripts(site: Path) -> None:
    page = (site / "index.html").read_text()

    assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://[^"]*"', page)


def test_every_code_of_an_error_is_explained() -> None:
    import qw.brokers
    import qw.core.task.payload
    import qw.store.handler_transaction  # noqa: F401 - so that all errors are known

    page = (DOCS / "errors.md").read_text()
    codes = {kind.code for kind in subclasses(QwError) if kind.__module__.startswith("qw.")}

    assert {code for code in codes if f"| `{code}` |" not in page} == set()


def test_every_extra_is_on_the_page_about_the_installation() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (DOCS / "install.md").read_text()

    assert {name for name in extras if f"| `qw[{name}]` |" not in page} == {"dev"}


def test_errors_that_programs_catch_can_be_imported() -> None:
    for name in ("TaskFailed", "TaskCancelled", "Conflict", "NotFound", "Invalid", "Unavailable", "TimedOut"):
        assert issubclass(getattr(qw, name), QwError)
