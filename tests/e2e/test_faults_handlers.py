"""What handlers do to the process they run in, and what becomes of it and of the tasks beside them."""

from __future__ import annotations

import signal

from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue


def test_a_handler_that_meddles_with_the_process_stops_neither_it_nor_others(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons().ready()
    innocent = queue.put_one("nap", seconds=2)
    meddling = [queue.put_one("exit_later", way=way) for way in ("stop", "protocol", "signals", "stderr")]

    queue.wait_for([innocent, *meddling[1:]], "completed")
    queue.wait_for(meddling[:1], "failed")
    assert "must not stop the event loop" in queue.field(meddling[0], "error")
    assert daemon.said("callback tried to exit the daemon")
    wait_until(lambda: daemon.said("signal handler was replaced"))
    daemon.send(signal.SIGTERM)
    assert daemon.exit_code() == 0
    assert daemon.said("daemon stopped")


def test_a_handler_that_cancels_all_tasks_of_the_loop_ends_its_own_attempt_only(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons().ready()
    innocent = queue.put_one("nap", seconds=2)
    queue.wait_for([innocent], "processing")
    id = queue.put_one("exit_later", way="cancel all")

    queue.wait_for([innocent], "completed")
    wait_until(lambda: "cancelled itself" in (queue.field(id, "error") or ""))
    assert queue.field(id, "crashes") == 0
    assert daemon.said("handler tried to cancel asyncio tasks of the daemon; ignored")
    daemon.send(signal.SIGTERM)
    assert daemon.exit_code() == 0
