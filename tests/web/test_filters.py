"""Every query parameter that the OpenAPI document names for a list does what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.databases import Template
from tests.web.live import Live, live

STEPS = {"steps": [{"id": "a", "type": "noop"}]}
FUTURE = "2099-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def filled(migrated_template: Template) -> Iterator[Live]:
    """Two of each kind, of which every filter below finds one."""
    with migrated_template.clone() as url, live(url) as started:
        one = started.post("/api/workflows", {"name": "one", "definition": STEPS})["workflow"]
        started.post("/api/workflows", {"name": "two", "definition": STEPS, "isActive": False})
        run = started.post(f"/api/workflows/{one['id']}/start")["runId"]
        started.post(f"/api/runs/{run}/cancel")
        started.post(f"/api/workflows/{one['id']}/start")
        started.task(queue="mine")
        started.task("data_processing", {"operation": "noop"}, delay="2h")
        started.post("/api/schedules", {"name": "first", "cron": "0 0 1 1 *", "type": "noop", "payload": {}})
        started.post("/api/schedules", {"name": "second", "cron": "0 0 1 1 *", "type": "noop", "payload": {}})
        yield started


def _workflow(live: Live) -> str:
    return str(live.get("/api/workflows?active=true")["workflows"][0]["id"])


# a value of each parameter, and how many of all it leaves; the rest of the parameters are pages, looked at below
FILTERS: dict[tuple[str, str], tuple[Callable[[Live], str], str]] = {
    ("/api/task", "status"): (lambda live: "cancelled", "tasks"),
    ("/api/task", "type"): (lambda live: "data_processing", "tasks"),
    ("/api/task", "workflowId"): (_workflow, "tasks"),
    ("/api/task", "queue"): (lambda live: "mine", "tasks"),
    ("/api/task", "since"): (lambda live: FUTURE, "tasks"),
    ("/api/task", "until"): (lambda live: "2001-01-01T00:00:00Z", "tasks"),
    ("/api/workflows", "active"): (lambda live: "false", "workflows"),
    ("/api/runs", "status"): (lambda live: "cancelled", "runs"),
    ("/api/runs", "workflow"): (lambda live: "two", "runs"),
}
PAGES = {"limit", "cursor", "after", "relations", "next", "fires"}


def lists(live: Live) -> Iterator[tuple[str, str]]:
    """Path and parameter of every list that the document names."""
    for path, item in live.get("/openapi.json")["paths"].items():
        if path in ("/api/task", "/api/workflows", "/api/workflows/active", "/api/runs", "/api/schedules"):
            for parameter in item["get"].get("parameters", []):
                if parameter["in"] == "query":
                    yield path, parameter["name"]


def test_every_filter_of_a_list_is_looked_at_here(filled: Live) -> None:
    assert {(path, name) for path, name in lists(filled) if name not in PAGES} == set(FILTERS)


@pytest.mark.parametrize(("path", "name"), FILTERS)
def test_a_filter_leaves_fewer_of_them_and_tells_how_many(filled: Live, path: str, name: str) -> None:
    value, key = FILTERS[path, name]
    everything: Any = filled.get(path)

    found = filled.get(path, params={name: value(filled)})

    assert len(found[key]) < len(everything[key])
    if "total" in found:
        assert found["total"] == len(found[key])


LISTS = {"/api/task": "cursor", "/api/workflows": "cursor", "/api/runs": "cursor", "/api/schedules": "after"}


@pytest.mark.parametrize(("path", "place"), LISTS.items())
def test_a_page_is_as_long_as_asked_and_the_next_goes_on_behind_it(filled: Live, path: str, place: str) -> None:
    key = "tasks" if path == "/api/task" else path.rpartition("/")[2]

    first = filled.get(path, params={"limit": 1})
    second = filled.get(path, params={"limit": 1, place: first["nextCursor"]})

    assert (len(first[key]), len(second[key])) == (1, 1)
    assert first[key] != second[key]
