"""A rolling deploy: two versions of an app work side by side."""

from __future__ import annotations

from pathlib import Path

from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue

APP = (
    "from qw import Handlers\napp = Handlers()\n@app.handler('mail', max_retries=1)\nasync def mail({}) -> None: pass\n"
)


def test_tasks_for_the_new_version_complete_there_while_the_old_one_goes_on(
    daemons: Daemons, queue: Queue, tmp_path: Path
) -> None:
    for name, parameters in (("old_mail", "to: str"), ("new_mail", "to: str, locale: str = 'en'")):
        (tmp_path / f"{name}.py").write_text(APP.format(parameters))
    old, new = [daemons("--app", f"{name}:app", PYTHONPATH=str(tmp_path)) for name in ("old_mail", "new_mail")]
    old.ready()
    new.ready()
    for _ in range(8):
        id = queue.put_one("mail", to="a", locale="de")
        wait_until(lambda: queue.status(id) == "completed")  # noqa: B023

    assert queue.value("select count(*) from qw.tasks where worker = %s", new.worker) == 8
    assert queue.value("select count(*) from qw.tasks where retries > 0") == 0
