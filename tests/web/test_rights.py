"""What the rights of the server's role let it do for those who ask by HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from qw.core.rights import Right
from tests.databases import Template
from tests.store.test_rights import as_role, grant_all, role, roles
from tests.web.live import live

TASK = {"type": "noop", "payload": {"a": 1}}
LOOK, ENQUEUE, PAUSE = ("GET", "/api/task"), ("POST", "/api/task"), ("POST", "/api/queues/mail/pause")
MAY = {
    Right.ENQUEUE: {ENQUEUE},
    Right.READ: {LOOK},
    Right.OPERATE: {LOOK, ENQUEUE, PAUSE},
    Right.WORK: {LOOK, ENQUEUE},
}
NEEDS = {LOOK: Right.READ, ENQUEUE: Right.ENQUEUE, PAUSE: Right.OPERATE}


@pytest.fixture(scope="module")
def granted(migrated_template: Template) -> Iterator[str]:
    with migrated_template.clone() as url, roles(url):
        asyncio.run(grant_all(url))
        yield url


@pytest.mark.parametrize("right", Right)
def test_http_does_what_the_role_of_its_server_may(granted: str, right: Right) -> None:
    with live(as_role(granted, right)) as server:
        for method, path in (LOOK, ENQUEUE, PAUSE):
            answer = server.api.request(method, path, json=TASK if path == "/api/task" and method == "POST" else None)

            if (method, path) in MAY[right]:
                assert answer.status_code in (200, 201), answer.text
            else:
                assert answer.status_code == 403
                remedy = f"the owner grants it with: qw db grant {role(right)} {NEEDS[method, path]}"
                missing = f"lacks the right '{NEEDS[method, path]}'; {remedy}"
                assert answer.json()["message"] == f"role {role(right)} {missing}"
