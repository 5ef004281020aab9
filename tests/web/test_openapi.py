"""The document about the API says what the API does."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from qw.config import Settings
from qw.web import WebOptions
from qw.web.application import table
from qw.web.openapi import document
from tests.web.live import Live

ROUTES = table(Settings(), WebOptions(seeder=True))


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_route_is_in_the_document_once_with_an_id_of_its_own() -> None:
    paths = document(ROUTES)["paths"]
    assert isinstance(paths, dict)
    operations: list[Any] = [one for path in paths.values() if isinstance(path, dict) for one in path.values()]

    assert len(operations) == len([route for route in ROUTES if not route.path.startswith("/api/tasks")])
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


def test_parameters_and_fields_are_described_and_every_body_has_an_example_that_fits() -> None:
    found: Any = document(ROUTES)
    routes = {(route.path, route.method.lower()): route for route in ROUTES}

    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                assert parameter["description"], path
                assert "example" in parameter, path
            if "requestBody" in operation:
                model = routes[path, method].body.__name__
                fields = found["components"]["schemas"][model]["properties"]
                assert [name for name, field in fields.items() if not field.get("description")] == [], path
                example = operation["requestBody"]["content"]["application/json"]["example"]
                routes[path, method].body.model_validate(example)
                assert not unknown(routes[path, method].body, example), path


def unknown(model: type[BaseModel], example: dict[str, Any]) -> set[str]:
    return example.keys() - {field.alias or name for name, field in model.model_fields.items()}


def test_every_json_response_has_an_example_that_fits() -> None:
    paths: Any = document(ROUTES)["paths"]

    for route in ROUTES:
        if route.path.startswith("/api/tasks"):
            continue
        responses = paths[route.path][route.method.lower()]["responses"]
        bodies = {
            str(route.status): route.verbose or route.out,
            **{str(status): out for status, out in route.also.items()},
        }
        for status, body in bodies.items():
            if content := responses[status]["content"].get("application/json"):
                TypeAdapter(body).validate_python(content["example"])


def test_every_reference_leads_somewhere() -> None:
    found: Any = document(ROUTES)

    names = {reference.removeprefix("#/components/schemas/") for reference in references(found)}

    assert names
    assert names <= found["components"]["schemas"].keys()


def test_every_task_route_has_both_spellings() -> None:
    paths = {(route.method, route.path) for route in ROUTES}

    for method, path in paths:
        if re.match(r"/api/tasks?(/|$)", path):
            assert (method, re.sub(r"^/api/tasks?", "/api/task", path)) in paths
            assert (method, re.sub(r"^/api/tasks?", "/api/tasks", path)) in paths


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.out is not str], ids=lambda route: f"{route.method} {route.path}"
)
def test_what_a_route_gives_has_a_schema(route: Any) -> None:
    assert TypeAdapter(route.out).json_schema()


def test_an_answer_has_exactly_the_members_that_the_document_names(server_shared: Live) -> None:
    found = server_shared.get("/openapi.json")["components"]["schemas"]
    id = server_shared.task()

    task = server_shared.get(f"/api/task/{id}?relations=workflow,logs,checkpoints")
    problem = server_shared.api.get("/api/nope").json()

    assert task.keys() == found["TaskEntity"]["properties"].keys()
    assert problem.keys() == found["ErrorBody"]["properties"].keys()


def test_a_large_answer_is_compressed_for_those_who_take_it(server_shared: Live) -> None:
    small = server_shared.api.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    large = server_shared.api.get("/openapi.json", headers={"Accept-Encoding": "identity"})

    assert (small.headers.get("content-encoding"), large.headers.get("content-encoding")) == ("gzip", None)
    assert int(small.headers["content-length"]) < int(large.headers["content-length"]) / 4
    assert small.json() == large.json()
