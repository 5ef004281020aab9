"""The OpenAPI document, generated from the route table."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from qw import __version__
from qw.core.task.payload import JsonObject
from qw.web.errors import ErrorBody, phrase
from qw.web.examples import BODIES, EXAMPLES, FIELDS, FOREIGN, PATH, QUERY
from qw.web.response_examples import example_of
from qw.web.route import Nothing, Route

_ABOUT = """A durable task queue in PostgreSQL.

Times are ISO 8601 in UTC, ids are UUIDs. Errors are `application/problem+json` with a stable `code`. `/api/task` may
also be spelled `/api/tasks`. Where tokens are set, send one as `Authorization: Bearer`, or log in to the dashboard.
"""
_REF = "#/components/schemas/{model}"
_EVERYWHERE = (400, 401, 403, 503)
_WITH_BODY = (408, 413, 415)
_ALIAS = "/api/tasks"  # an alias of /api/task: served, but not documented again


@lru_cache(maxsize=8)
def document(table: tuple[Route, ...]) -> JsonObject:
    """Return the OpenAPI 3.1 document for *table*; cached, because generating it takes about 0.3 s."""
    schemas: JsonObject = {}
    paths: dict[str, Any] = {}
    for route in table:
        if route.path.startswith(_ALIAS):
            continue
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    _schema(ErrorBody, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "qw", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schemas: JsonObject) -> JsonObject:
    summary, _, more = route.doc.replace("``", "`").partition("\n")
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "tags": [_tag(route)],
        "summary": summary.rstrip(".").replace("`", ""),  # shown as plain text
        "responses": _responses(route, schemas),
    }
    if more.strip():
        operation["description"] = more.strip()
    if parameters := [*_path_parameters(route), *_query_parameters(route, schemas), *_header_parameters(route)]:
        operation["parameters"] = [
            {
                "example": FOREIGN.get(
                    f"{route.method} {route.path} {parameter['name']}", EXAMPLES[str(parameter["name"])]
                ),
                **parameter,
            }
            for parameter in parameters
        ]
    if route.body is not Nothing:
        content: dict[str, Any] = {"application/json": {"schema": _schema(route.body, schemas)}}
        if example := BODIES.get(f"{route.method} {route.path}"):
            content["application/json"]["example"] = example
        operation["requestBody"] = {"required": _needs_body(route.body), "content": content}
    if route.role is not None:
        operation["security"] = [{}, {"token": []}]
        operation["x-role"] = route.role.value
    return operation


def _operation_id(route: Route) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", " ", route.path.removeprefix("/api/")).split()
    return "_".join([route.method.lower(), *words])


def _tag(route: Route) -> str:
    parts = route.path.strip("/").split("/")
    return parts[1] if parts[0] == "api" else "service"


def _responses(route: Route, schemas: JsonObject) -> JsonObject:
    content: dict[str, Any] = {media: _content(media, out, schemas) for media, out in _media(route)}
    responses: dict[str, Any] = {str(route.status): {"description": "Done", "content": content}}
    for also, out in route.also.items():
        shape = {"application/json": _content("application/json", out, schemas)}
        responses[str(also)] = {"description": "Done", "content": shape}
    for status in sorted({*_EVERYWHERE, *route.errors, *(_WITH_BODY if route.takes_body else ())}):
        error: dict[str, Any] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
        if status == 503 and status in route.errors:  # health reports have this form also with status 503
            error |= content
        responses[str(status)] = {"description": phrase(status), "content": error}
    return responses


def _content(media: str, out: Any, schemas: JsonObject) -> JsonObject:
    schema = _schema(out, schemas)
    return (
        {"schema": schema, "example": example_of(schema, schemas)}
        if media == "application/json"
        else {"schema": schema}
    )


def _media(route: Route) -> list[tuple[str, Any]]:
    """Return the response types of the route, by media type."""
    return [(route.media, route.out), *([("application/json", route.verbose)] if route.verbose else [])]


def _path_parameters(route: Route) -> list[JsonObject]:
    names = re.findall(r"\{(\w+)\}", route.path)
    return [
        {"name": name, "in": "path", "required": True, "description": PATH[name], "schema": _path_schema(name)}
        for name in names
    ]


def _path_schema(name: str) -> JsonObject:
    if name in ("id", "taskId"):
        return {"type": "string", "format": "uuid"}
    if name in ("worker", "number"):
        return {"type": "string", "pattern": "^[0-9]{1,9}$"}
    if name == "name":
        return {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$"}
    return {"type": "string", "minLength": 1}


def _query_parameters(route: Route, schemas: JsonObject) -> list[JsonObject]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=_REF)
    for name, definition in schema.get("$defs", {}).items():
        schemas[name] = definition
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": field.get("description") or QUERY[name],
            "schema": _without_null(field),
        }
        for name, field in schema["properties"].items()
    ]


def _without_null(field: dict[str, Any]) -> JsonObject:
    """Return the schema without null: query parameters have none, a nullable parameter is an optional one."""
    kept = [option for option in field.get("anyOf", []) if option != {"type": "null"}]
    shown = {key: value for key, value in field.items() if key not in ("anyOf", "default", "title")}
    return {**shown, **kept[0]} if len(kept) == 1 else {**shown, **({"anyOf": kept} if kept else {})}


def _header_parameters(route: Route) -> list[JsonObject]:
    key: JsonObject = {"type": "string", "minLength": 1, "maxLength": 512}
    headers: list[JsonObject] = []
    if route.keyed:
        about = "Repeating a request with the same key creates nothing and returns the first result."
        headers.append({"name": "Idempotency-Key", "in": "header", "description": about, "schema": key})
    if route.waits:
        about = "wait=N: wait up to N seconds for the outcome and return it."
        wait: JsonObject = {"type": "string", "examples": ["wait=10"]}
        headers.append({"name": "Prefer", "in": "header", "description": about, "schema": wait})
    return headers


def _needs_body(model: type[BaseModel]) -> bool:
    return any(field.is_required() or field.validate_default for field in model.model_fields.values())


def _schema(shape: Any, schemas: JsonObject, mode: JsonSchemaMode = "validation") -> JsonObject:
    """Return the schema of *shape*; referenced schemas are added to *schemas*."""
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        _, found = models_json_schema([(shape, mode)], ref_template=_REF)
        defined = found.get("$defs", {}).items()
        _add({name: _required(name, _described(name, schema), shape) for name, schema in defined}, schemas)
        return {"$ref": _REF.format(model=shape.__name__)}
    schema = TypeAdapter(shape).json_schema(ref_template=_REF, mode=mode)
    _add(schema.pop("$defs", {}), schemas)
    if schema.get("type") == "object" and isinstance(schema.get("title"), str) and "properties" in schema:
        _add({schema["title"]: schema}, schemas)
        return {"$ref": _REF.format(model=schema["title"])}
    return schema


def _add(named: JsonObject, schemas: JsonObject) -> None:
    """Add the *named* schemas. Two different classes of the same name are an error."""
    for name, schema in named.items():
        if schemas.setdefault(name, schema) != schema:
            raise ValueError(f"two classes of the API with different fields are named {name}")


def _described(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Add a description to each field."""
    for field, about in schema.get("properties", {}).items():
        if text := FIELDS.get(f"{name}.{field}") or FIELDS.get(field):
            about.setdefault("description", text)
    return schema


def _required(name: str, schema: dict[str, Any], shape: type[BaseModel]) -> JsonObject:
    """Mark fields as required that have a default in pydantic only for a custom error on a missing value."""
    if name != shape.__name__:
        return schema
    needed = [
        field.alias or name
        for name, field in shape.model_fields.items()
        if field.is_required() or field.validate_default
    ]
    for alias in needed:
        schema["properties"][alias].pop("default", None)
    return {**schema, "required": [*needed]} if needed else schema
