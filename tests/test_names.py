"""One verb in all places: a statement, a function of the store, a method of the client."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from qw import sql, store
from qw.client import Client
from qw.client.tasks import Tasks
from qw.store import tasks
from qw.store.migrations import known

SOURCES = {path.stem: path.read_text() for path in Path(str(store.__file__)).parent.glob("*.py")}

VERBS = ["enqueue", "enqueue_many", "get", "find", "resolve", "attempts", "cancel", "retry", "requeue", "compensate"]


def named_in(text: str) -> set[str]:
    """The statements that a module of the store names, of its noun."""
    return set(re.findall(r'_SQL\["(\w+)"\]', text)) | set(re.findall(r': "(find_\w+)"', text))


def nouns_of(text: str) -> list[str]:
    return re.findall(r'sql\.statements\("(\w+)"\)', text)


@pytest.mark.parametrize("noun", sql.nouns())
def test_every_statement_is_run_by_the_store_and_every_name_there_has_one(noun: str) -> None:
    users = [text for text in SOURCES.values() if noun in nouns_of(text)]
    named = {name for text in users for name in re.findall(r'"(\w+)"', text)}

    assert users, f"nobody uses {noun}.sql"
    assert set(sql.statements(noun)) - named == set()


@pytest.mark.parametrize("module", [name for name, text in SOURCES.items() if nouns_of(text)])
def test_every_statement_that_the_store_names_is_there(module: str) -> None:
    known = {verb for noun in nouns_of(SOURCES[module]) for verb in sql.statements(noun)}

    assert named_in(SOURCES[module]) - known == set()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_about_tasks_has_the_same_name_in_store_and_client(verb: str) -> None:
    assert inspect.iscoroutinefunction(getattr(tasks, verb))
    assert inspect.iscoroutinefunction(getattr(Client if verb.startswith("enqueue") else Tasks, verb))


@pytest.mark.parametrize("verb", ["cancel", "retry", "enqueue"])
def test_a_public_verb_has_a_statement_and_a_function_in_sql(verb: str) -> None:
    text = "\n".join(migration.text for migration in known())

    assert verb in sql.statements("task")
    assert f"create function qw.{verb}(" in text
