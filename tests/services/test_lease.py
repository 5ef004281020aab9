from __future__ import annotations

import math
import os
import struct
from datetime import timedelta

import pytest

from qw.handlers.leash import Leash
from qw.services.liveness import lease as clock
from qw.services.liveness.lease import Lease


class Clock:
    """The lease's clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "now", made)
    return made


def test_a_lease_counts_from_before_what_confirmed_it_was_sent(time: Clock) -> None:
    lease = Lease(timedelta(seconds=15))
    assert not lease.holds

    lease.confirm(time.now - 13.9)
    assert lease.holds
    time.now += 0.2

    assert not lease.holds
    assert -0.2 < lease.left < 0


def test_what_runs_is_stopped_before_the_lease_ends(time: Clock) -> None:
    for seconds, stopped in ((15, 14), (2, 2 * 2 / 3)):
        lease = Lease(timedelta(seconds=seconds))
        lease.confirm(time.now)

        assert lease.left == pytest.approx(stopped)


def test_child_processes_know_until_when_they_may_run(time: Clock) -> None:
    leash = Leash()
    lease = Lease(timedelta(seconds=15), leash)
    assert deadline(leash) == -math.inf

    lease.confirm(time.now)
    lease.confirm(time.now - 5)
    assert deadline(leash) == time.now + 14
    lease.revoke()

    assert deadline(leash) == -math.inf
    leash.close()


def deadline(leash: Leash) -> float:
    value: float = struct.unpack("d", os.pread(leash.fileno(), 8, 0))[0]
    return value


def test_nothing_starts_unless_a_beat_was_confirmed_lately(time: Clock) -> None:
    lease = Lease(timedelta(seconds=15))
    assert not lease.may_start
    lease.confirm(time.now)
    assert lease.may_start

    time.now += 3.1

    assert (lease.holds, lease.may_start) == (True, False)


def test_nothing_starts_after_a_gap_before_something_sent_since_is_confirmed(time: Clock) -> None:
    lease = Lease(timedelta(seconds=15))
    lease.pulse()
    lease.confirm(time.now)
    time.now += 1.0  # frozen: the event loop may be the first to wake, before anybody noticed
    assert not lease.may_start

    assert lease.pulse()
    assert not lease.may_start
    lease.confirm(time.now - 0.5)  # an answer from before the freeze, read only now
    assert not lease.may_start
    lease.confirm(time.now)

    assert lease.may_start
    assert not lease.pulse()


def test_a_revoked_lease_is_not_restored_by_an_answer_to_what_was_sent_before(time: Clock) -> None:
    lease = Lease(timedelta(seconds=15))
    lease.confirm(time.now)
    sent_at = time.now
    time.now += 0.1
    lease.revoke()

    lease.confirm(sent_at)
    assert (lease.holds, lease.may_start) == (False, False)
    time.now += 0.1
    lease.confirm(time.now)

    assert lease.may_start


def test_an_older_confirmation_that_comes_late_takes_nothing_back(time: Clock) -> None:
    lease = Lease(timedelta(seconds=15))
    lease.confirm(time.now)
    lease.confirm(time.now - 5)

    assert lease.age == 0
