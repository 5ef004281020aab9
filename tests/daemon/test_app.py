"""``--app``: whatever the user's module does while it is imported is told by its file and line."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qw.core.errors import Misconfigured
from qw.daemon.app import load_app

NAMES = (f"users_app_{n}" for n in itertools.count())
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module into the current directory. Returns its name: each its own, since imports are remembered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def written(text: str) -> str:
        name = next(NAMES)
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return written


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("import qw\nfrom json import nothing\n", 2, "ImportError: cannot import name 'nothing' from 'json'"),
        ("import qw\n\nimport missing_library\n", 3, "ModuleNotFoundError: No module named 'missing_library'"),
        ("import qw\napp = qw.Handlers(\n", 2, "SyntaxError: '(' was never closed"),
        ("import json\napp = 1\njson.loads('x')\n", 3, "JSONDecodeError: Expecting value"),
        ("def f():\n  return 1 / 0\nf()\n", 2, "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", 2, "the module ends the program (3) while it is imported"),
        ("class Odd(BaseException): pass\nraise Odd\n", 2, "Odd"),
        ("raise ValueError('two\\nlines')\n", 1, "ValueError: two lines"),
        (
            "import qw\napp = qw.Handlers()\nfor _ in 1, 2:\n  @app.handler('t')\n  async def t(): pass\n",
            4,
            "Invalid: two handlers for the type 't'",
        ),
    ],
)
def test_what_an_app_raises_is_told_with_its_file_and_line(write: Write, text: str, line: int, said: str) -> None:
    name = write(text)
    with pytest.raises(Misconfigured) as caught:
        load_app(f"{name}:app")

    message = str(caught.value)
    assert f"{name}.py:{line}: {said}" in message
    assert message.startswith(f"--app {name}:app: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "attribute", "said"),
    [
        ("import qw\napp = qw.Handlers()\n", "ap", "has no 'ap'; did you mean 'app'?"),
        ("import qw\nhandlers = qw.Handlers()\n", "app", "has no 'app'; its Handlers object is 'handlers'"),
        ("def app(): pass\n", "app", "is a function, not a qw.Handlers object"),
        ("app = None\n", "app", "is a NoneType, not a qw.Handlers object"),
        ("def __getattr__(name): raise OSError('disk')\n", "app", "OSError: disk"),
    ],
)
def test_what_is_no_handlers_object_is_told_with_its_file(write: Write, text: str, attribute: str, said: str) -> None:
    name = write(text)
    with pytest.raises(Misconfigured) as caught:
        load_app(f"{name}:{attribute}")

    assert said in str(caught.value)
    assert f"{name}.py" in str(caught.value)


@pytest.mark.parametrize("name", ["nothing_here:app", "nothing_here.at_all:app"])
def test_a_module_that_is_not_there_is_told_by_its_name(name: str) -> None:
    with pytest.raises(Misconfigured, match=r"No module named 'nothing_here'; looked in the current directory"):
        load_app(name)


@pytest.mark.parametrize("name", ["app.py", "app", ":app", "app:", ".app:app", "app:app()", "a/b:app"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match=r"write it as package\.module:attribute"):
        load_app(name)
