"""Where the next reading begins, by a model of sessions, snapshots and locks whose steps fall between each other."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from qw.services.events.event_order import ReadCursor
from qw.store.events import Reading, Waiting

LIMIT = 2


class Outbox:
    """Rows, by id, with the transactions that wrote them."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.open: set[str] = set()
        self.deleted: set[int] = set()
        self._writers = 0
        self._current: dict[int, str] = {}

    def write(self, session: int) -> None:
        if session not in self._current:
            self._writers += 1
            self._current[session] = f"{session}/{self._writers}"
            self.open.add(self._current[session])
        self.rows[len(self.rows) + 1] = self._current[session]

    def end(self, session: int) -> None:
        self.open.discard(self._current.pop(session, ""))

    def visible(self) -> list[int]:
        return [id for id, writer in self.rows.items() if writer not in self.open and id not in self.deleted]


X, Y = 0, 1
LOOK = [("snapshot", 0), ("look", 0)]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 2)),
            st.tuples(st.just("end"), st.integers(0, 2)),
            st.tuples(st.sampled_from(["snapshot", "look"]), st.just(0)),
        ),
        max_size=60,
    )
)
# it ended between the snapshot and the look, and was never seen
@example([("write", X), ("write", Y), ("end", Y), ("snapshot", 0), ("end", X), ("look", 0)])
# it was seen, and ended between the snapshot and the look of the next pass
@example(
    [
        *[("write", X), ("write", Y), ("end", Y), *LOOK],
        *[("write", Y), ("end", Y), ("snapshot", 0), ("end", X), ("look", 0)],
        *[("write", Y), ("end", Y), *LOOK],
    ]
)
# more of it came to light than one pass takes
@example([*[("write", X)] * 9, ("write", Y), ("end", Y), *LOOK, ("end", X)])
def test_each_reading_has_the_first_of_all_that_its_snapshot_shows(steps: list[tuple[str, int]]) -> None:
    outbox, progress = Outbox(), ReadCursor()
    snapshot: list[int] | None = None

    def look(shown: list[int]) -> bool:
        start = min([progress.cursor, *(at for w, at in progress.known.items() if w not in outbox.open)])
        found = [id for id in shown if id > start][:LIMIT]
        assert found == shown[:LIMIT]
        if found:
            waiting = [Waiting(id, None) for id in found]  # type: ignore[arg-type]
            reading = Reading(waiting=waiting, broken={}, last=found[-1], writers=frozenset(outbox.open))
            progress.went_through(reading, is_cut=len(found) == LIMIT)
            outbox.deleted |= set(found)
        return bool(found)

    for what, session in steps:
        if what == "write":
            outbox.write(session)
        elif what == "end":
            outbox.end(session)
        elif what == "snapshot" and snapshot is None:
            snapshot = outbox.visible()
        elif what == "look" and snapshot is not None:
            look(snapshot)
            snapshot = None
    for session in range(3):
        outbox.end(session)
    while look(outbox.visible()):
        pass

    assert outbox.deleted == set(outbox.rows)
