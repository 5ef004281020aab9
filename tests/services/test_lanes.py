from __future__ import annotations

from typing import Any
from uuid import UUID

from qw.core.task import Claim, Lane
from qw.services.execution.lanes import DEAREST_SECONDS, HEALTHY_SECONDS, RESCAN_SHARE, REVERSE_EVERY, Lanes
from qw.services.execution.prefetch import MOST, Prefetch
from qw.store.claims import Share

A, B, C = Lane("a", 5), Lane("b", 5), Lane("a", 1)


def opened(*lanes: Lane, queues: Any = ()) -> Lanes:
    made = Lanes(queues)
    made.add(lanes)
    return made


def claim(lane: Lane, seq: int) -> Claim:
    return Claim(
        id=UUID(int=seq), fence=seq, attempt=1, retries=0, crashes=0, seq=seq, queue=lane.queue, priority=lane.priority,
        type="t", payload={}, max_retries=None, timeout=None, backoff=None, unique_key=None, run_id=None, step=None,
        parent_id=None, headers=None, cancel_asked=False, waited=0.0,
    )  # fmt: skip


def learn(
    lanes: Lanes, shares: list[Share], *taken: Claim, room: int = 100, cost: float = 0.0, now: float = 0.0
) -> None:
    lanes.claimed(shares, list(taken), room=room, cost=cost, now=now)


def test_lower_priorities_come_first() -> None:
    assert [share.lane for share in opened(A, C).shares(10, 0)] == [C, A]


def test_queues_of_one_priority_take_turns_with_equal_quotas() -> None:
    lanes = opened(A, B)

    first, second = lanes.shares(9, 0), lanes.shares(9, 0)

    assert [share.lane for share in first] == [share.lane for share in second][::-1]
    assert {share.quota for share in first} == {5}


def test_one_queue_alone_gets_everything() -> None:
    assert opened(A).shares(9, 0) == [Share(A, -1, 9)]


def test_every_tenth_batch_begins_at_the_other_end() -> None:
    lanes = opened(A, C)

    orders = [[share.lane for share in lanes.shares(10, 0)] for _ in range(2 * REVERSE_EVERY)]

    assert [n for n, order in enumerate(orders, start=1) if order == [A, C]] == [REVERSE_EVERY, 2 * REVERSE_EVERY]


def test_only_the_queues_served_count() -> None:
    lanes = opened(A, B, queues=["b"])

    assert [share.lane for share in lanes.shares(1, 0)] == [B]
    assert not lanes.add([A])
    assert lanes.add([A, B])


def test_a_lane_that_gave_less_than_its_quota_is_dry() -> None:
    lanes = opened(A, B)
    shares = lanes.shares(4, 0)

    learn(lanes, shares, claim(A, 1), claim(A, 2), claim(B, 3), room=4)

    assert [share.lane for share in lanes.shares(4, 0)] == [A]


def test_a_full_claim_says_nothing_about_the_lanes_it_did_not_reach() -> None:
    lanes = opened(C, A)
    shares = lanes.shares(2, 0)

    learn(lanes, shares, claim(C, 1), claim(C, 2), room=2)

    assert {share.lane for share in lanes.shares(2, 0)} == {C, A}


def test_a_lane_that_is_cheap_is_claimed_from_its_start() -> None:
    lanes = opened(A)
    learn(lanes, lanes.shares(1, 0), claim(A, 7), room=1, cost=HEALTHY_SECONDS / 2)

    assert lanes.shares(1, 0.001)[0].cursor == -1


def test_a_lane_that_is_dear_is_claimed_from_its_cursor_until_the_next_rescan() -> None:
    lanes = opened(A)
    dear = 0.1
    learn(lanes, lanes.shares(1, 10), claim(A, 7), room=1, cost=dear, now=10)

    assert lanes.shares(1, 10.9)[0].cursor == 7
    assert lanes.shares(1, 10 + RESCAN_SHARE * dear - 0.1)[0].cursor == 7
    assert lanes.shares(1, 10 + RESCAN_SHARE * dear + 0.1)[0].cursor == -1


def test_a_claim_that_waited_for_a_lock_does_not_put_the_next_rescan_off_for_minutes() -> None:
    lanes = opened(A)
    learn(lanes, lanes.shares(1, 10), claim(A, 7), room=1, cost=60.0, now=10)

    assert lanes.shares(1, 10 + RESCAN_SHARE * DEAREST_SECONDS - 0.1)[0].cursor == 7
    assert lanes.shares(1, 10 + RESCAN_SHARE * DEAREST_SECONDS + 0.1)[0].cursor == -1


def test_a_cursor_only_rises_and_what_lies_behind_it_costs_no_rescan() -> None:
    lanes = opened(A)
    learn(lanes, lanes.shares(1, 0), claim(A, 9), room=1, cost=0.1, now=0)
    learn(lanes, lanes.shares(1, 1), claim(A, 12), room=1, cost=0.001, now=1)
    learn(lanes, [Share(A, -1, 1)], claim(A, 3), room=1, cost=0.1, now=5)

    assert lanes.shares(1, 5.5)[0].cursor == 12


def test_the_cursor_outlives_a_lane_that_was_dry() -> None:
    lanes = opened(A)
    learn(lanes, lanes.shares(1, 0), claim(A, 9), room=1, cost=0.1, now=0)
    learn(lanes, [Share(A, -1, 1)], room=1, cost=0.1, now=0)
    assert lanes.is_empty
    lanes.add([A])

    assert lanes.shares(1, 0.5)[0].cursor == 9


def test_claiming_itself_is_not_counted_as_the_walk() -> None:
    lanes = opened(A)
    learn(lanes, lanes.shares(200, 0), *(claim(A, n) for n in range(200)), room=200, cost=0.012, now=0)

    assert lanes.shares(1, 0.5)[0].cursor == -1


def test_lanes_that_are_dry_leave_nothing_to_claim() -> None:
    lanes = opened()

    assert lanes.is_empty
    assert lanes.shares(10, 0) == []


def test_nothing_is_claimed_ahead_of_what_was_never_measured() -> None:
    assert Prefetch().ahead(100.0) == 0


def test_as_much_is_claimed_ahead_as_completes_in_a_fifth_of_a_second() -> None:
    pace = Prefetch()
    for n in range(11):
        pace.ahead(n / 10)
        pace.completed(10)

    assert 19 <= pace.ahead(1.1) <= 20


def test_no_more_than_a_batch_is_claimed_ahead() -> None:
    pace = Prefetch()
    pace.ahead(0.0)
    pace.completed(100_000)

    assert pace.ahead(0.1) == MOST


def test_a_pause_ends_the_claiming_ahead() -> None:
    pace = Prefetch()
    pace.ahead(0.0)
    pace.completed(100)
    pace.ahead(0.1)
    pace.ahead(60.0)

    assert pace.ahead(60.3) == 0


def test_a_lane_heard_of_during_a_claim_that_found_nothing_stays_open() -> None:
    lanes = opened(A, B)
    shares = lanes.shares(10, 0)

    lanes.add([A])
    learn(lanes, shares, room=10)

    assert [share.lane for share in lanes.shares(10, 0)] == [A]
