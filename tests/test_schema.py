"""The JSON Schema for editors and the reader, made from the same fields, agree about what a file may say."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qw.core.errors import Invalid
from qw.definitions import loads
from qw.definitions.schema import OBJECTS, editor_line, schema
from qw.definitions.source import read

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "workflows.yaml", *sorted((ROOT / "examples").glob("*.yaml")), *(ROOT / "tests/rewritten").glob("*")]
VOCABULARY = """
version: 1
owner: shop
defaults: { retry: { max_retries: 2 }, timeout: 1m, shell: bash, env: { A: b }, cwd: /tmp, queue: default }
templates:
  call:
    params: { url: string, times: { type: integer, default: 2, description: Attempts } }
    type: http_request
    with: { url: "${{ params.url }}" }
    retry: { max_retries: "${{ params.times }}" }
secrets: { token: { env: TOKEN }, key: { file: /etc/key } }
workflows:
  chain:
    description: Chain
    defaults: { timeout: 1m }
    secrets: { other: { env: OTHER } }
    initialTask: { type: noop, payload: { a: 1 } }
    transitions: { noop: { type: echo } }
  whole:
    description: Everything
    input: { n: integer, list: { type: array, default: [1], description: Numbers } }
    defaults: { queue: slow }
    outputs: { b: "${{ steps.b.result }}" }
    timeout: 1h
    max_parallel: 3
    concurrency: { key: "${{ input.n }}", limit: 2, on_limit: skip }
    secrets: { other: { env: OTHER } }
    steps:
      - { id: a, template: call, params: { url: "http://x" }, priority: 3, queue: fast }
      - id: b
        run: cat
        shell: [python3]
        env: { N: "${{ input.n }}", T: "${{ secrets.token }}" }
        cwd: /tmp
        stdin: text
        user: nobody
        output: json
        artifacts: { report: out.csv }
        background: keep
        needs: a
        run_if: all_done
        if: input.n > 1
        retry: { max_retries: 3, delay: 1s, backoff: 2, max_delay: 1m, on: timeout, give_up_on: [exit:3] }
        timeout: 5m
        continue_on_error: [exit:1]
        compensate: { run: "true", retry: { max_retries: 2 }, timeout: 1s }
      - { id: c, type: noop, depends: [b], when: "true", foreach: "${{ input.list }}", max_parallel: 2,
          fail_fast: false }
      - { id: d, type: noop, matrix: { x: [1], include: [{ x: 2 }], exclude: [{ x: 1 }] }, continue_on_error: true }
      - { id: e, type: sleep, with: { for: 1s } }
      - { id: f, type: wait_signal, with: { signal: go, count: 2 }, timeout: 1h }
      - { id: g, type: approval, with: { message: Go? } }
      - { id: h, type: workflow, with: { workflow: chain, input: {} }, retry: { max_retries: 2, retry_on: timeout } }
      - { id: i, switch: [{ if: input.n > 1, then: j }, { when: "false", then: [] }, { else: k }] }
      - { id: j, type: noop, repeat: { until: round > 2, delay: 1s, backoff: 2, max_delay: 1m, max: 9, timeout: 1h } }
      - { id: k, type: workflow, with: { workflow: chain }, repeat: { while: round < 2 } }
    on_failure: [{ id: y, type: noop, if: "true" }]
    finally: [{ id: z, run: "true", repeat: { until: "true" } }]
schedules:
  cron: { cron: "0 3 * * * *", seconds: true, timezone: Europe/Berlin, type: noop, with: { a: 1 },
          queue: q, priority: 1, max_retries: 2, timeout: 1m, misfire: all,
          window: 1h, cap: 3, overlap: skip, jitter: 1s, paused: true,
          start: "2026-01-01T00:00:00Z", end: "2027-01-01T00:00:00Z", description: Nightly }
  every: { every: 5m, run: cat, shell: sh, env: { A: b }, cwd: /tmp, stdin: { a: 1 }, user: nobody, output: lines }
  at: { at: "2035-01-01T00:00:00Z", workflow: whole, with: { n: 2 } }
queues: { q: { paused: true, concurrency: 2, rate: 5/s, key: payload.a, per_key: 1, per_key_rate: 1/m }, free: }
commands:
  ls: { argv: [ls, -l], cwd: /tmp, user: nobody, env: { A: b }, timeout: 1m,
        exit_codes: { 3: retry }, background: keep }
  cat: { run: cat, shell: bash, description: Cat }
webhooks:
  hook: { url: "http://x", events: task.*, types: [noop], queues: q, headers: { a: b }, secret_env: HOOK,
          max_retries: 3, description: Hook }
remote: { gpu: { queue: gpu, timeout: 1m, max_retries: 2, description: GPU }, far: { url: "http://x" }, plain: }
tests:
  t: { workflow: whole, input: { n: 1 }, assume: { b: failed, a: { result: 1 } },
       expect: { status: failed, error: step, steps: { b: failed } } }
"""
SCHEMA: Any = schema()
WHOLE: Any = read(VOCABULARY, "f.yaml").value
EXAMPLES: list[Any] = [WHOLE, *(read(path.read_text(), path.name).value for path in FILES)]


def is_valid(document: Any) -> bool:
    return bool(pytest.importorskip("jsonschema_rs").validator_for(SCHEMA).is_valid(document))


def is_read(document: Any) -> bool:
    try:
        loads(json.dumps(document))
    except Invalid:
        return False
    return True


def resolved(rules: Any, value: Any) -> Any:
    """The part of the schema that *value* is checked by: what references and alternatives lead to."""
    while True:
        if "$ref" in rules:
            rules = SCHEMA["$defs"][rules["$ref"].rpartition("/")[2]]
        elif "if" in rules:
            rules = rules["then" if "initialTask" in value else "else"]
        elif "anyOf" in rules:
            of_objects = [
                one for one in rules["anyOf"] if resolved(one, value).get("type") in ("object", ["object", "null"])
            ]
            return resolved(of_objects[0], value) if of_objects and isinstance(value, dict) else {}
        else:
            return rules


def closed_objects(value: Any, rules: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The objects below *value* with known keys only: their paths and schemas."""
    rules = resolved(rules, value)
    if isinstance(value, dict):
        if rules.get("additionalProperties") is False:
            yield path, rules
        for key, below in value.items():
            inner = rules.get("properties", {}).get(key, rules.get("additionalProperties"))
            yield from closed_objects(below, inner, (*path, key)) if isinstance(inner, dict) else ()
    elif isinstance(value, list) and "items" in rules:
        for n, below in enumerate(value):
            yield from closed_objects(below, rules["items"], (*path, n))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def test_the_vocabulary_uses_every_key_there_is() -> None:
    """Those of templates, compensations and late steps are keys of steps, too."""
    unused: dict[frozenset[str], frozenset[str]] = {}
    for path, rules in closed_objects(WHOLE, SCHEMA):
        if not {"templates", "compensate", "on_failure", "finally"} & {*path}:
            keys = frozenset(rules["properties"])
            unused[keys] = unused.get(keys, keys) - at(WHOLE, path).keys()

    assert len(unused) >= len(OBJECTS) - 3
    assert {key for keys in unused.values() for key in keys} == {"include"}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_what_is_read_fits_the_schema(number: int) -> None:
    validator = pytest.importorskip("jsonschema_rs").validator_for(SCHEMA)

    assert is_read(EXAMPLES[number])
    assert [str(error) for error in validator.iter_errors(EXAMPLES[number])] == []


@pytest.mark.parametrize("page", ["workflows.md", "workflows/recipes.md"])
def test_what_the_manual_shows_fits_the_schema(page: str) -> None:
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", (ROOT / "docs" / page).read_text())
    files = [read(block, page).value for block in blocks if re.match(r"version:|workflows:|tests:", block)]

    assert files
    assert all(map(is_valid, files))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_misspelt_key_is_refused_by_both(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(EXAMPLES)))
    path, rules = data.draw(st.sampled_from([*closed_objects(document, SCHEMA)]))
    within = at(document, path)
    key = data.draw(st.sampled_from([*within]))
    wrong = misspelt(key, data.draw(st.integers(0, 2**32)))
    assume(wrong not in rules["properties"] and not wrong.startswith("x-"))
    within[wrong] = within.pop(key)

    assert not is_valid(document)
    with pytest.raises(Invalid, match=re.escape(f"{wrong!r} is not a key of ")):
        loads(json.dumps(document))


def misspelt(word: str, seed: int) -> str:
    """*word* with a letter left out, twice, or in place of its neighbour."""
    chance = random.Random(seed)
    n = chance.randrange(len(word))
    return (
        chance.choice(
            [word[:n] + word[n + 1 :], word[: n + 1] + word[n:], word[:n] + word[n : n + 2][::-1] + word[n + 2 :]]
        )
        or "x"
    )


VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    -1,
    1.5,
    10**9,
    "",
    "x",
    "5m",
    "a b",
    "${{ input.n }}",
    [],
    ["x"],
    [[]],
    [{}],
    {},
    {"a": 1},
]
PLACES = [
    (*path, key)
    for path, rules in closed_objects(WHOLE, SCHEMA)
    for key in rules["properties"]
    if path[:1] != ("templates",)  # whose values are read where they are used
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(VALUES))
def test_what_the_schema_refuses_the_reader_refuses_too(place: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(WHOLE)

    at(document, place[:-1])[place[-1]] = value

    assert is_valid(document) or not is_read(document)


def test_the_line_for_editors_names_the_place_of_the_schema() -> None:
    assert editor_line("qw.schema.json") == "# yaml-language-server: $schema=qw.schema.json"
