"""Text of schedules, their ticks and the outcomes of ticks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from qw.cli.output.column import Column
from qw.cli.output.records import OutputFormat, dumped, record, show_record, show_records
from qw.cli.output.text import ago, clock, span
from qw.core.errors import Invalid
from qw.core.schedule import Schedule, TaskTarget
from qw.core.schedule.describe import describe, describe_target
from qw.core.schedule.zones import zone
from qw.core.task.masking import masked, masked_object

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.schedule.fire_decision import Fire
    from qw.core.schedule.timing import Tick
    from qw.store.fires import StoredFire
    from qw.store.schedules import StoredSchedule


def _when(stored: StoredSchedule) -> str:
    try:
        return describe(stored.schedule)
    except Invalid:
        return f"{stored.schedule.cron}, {stored.schedule.timezone}"


def _state(stored: StoredSchedule) -> str:
    if stored.broken:
        return "broken"
    if stored.paused_at:
        return "paused"
    if stored.next_at is None:
        return "over"
    return f"late {span(late)}" if (late := stored.read_at - stored.next_at) > timedelta(seconds=10) else "active"


def in_words(stored: StoredSchedule) -> str:
    """Describe when the schedule is due and its next tick."""
    if stored.next_at is None:
        return f"{_when(stored)}; {_state(stored)}"
    local = stored.next_at.astimezone(zone(stored.schedule.timezone))
    return f"{_when(stored)}; next {local:%Y-%m-%d %H:%M %Z}, {ago(stored.next_at)}"


SCHEDULE_COLUMNS: Sequence[Column] = (
    Column(title="name", text=lambda stored: stored.name),
    Column(title="state", text=_state, is_status=True, rank=1),
    Column(title="next", text=lambda stored: ago(stored.next_at), rank=2, right=True),
    Column(title="when", text=_when, rank=4, loose=True, least=24),
    Column(title="starts", text=lambda stored: describe_target(stored.schedule), rank=3, loose=True),
    Column(title="detail", text=lambda stored: stored.broken or stored.schedule.description, rank=5, loose=True),
)

_FIRE_COLUMNS: Sequence[Column] = (
    Column(title="tick", text=lambda fire: clock(fire.tick)),
    Column(title="outcome", text=lambda fire: _outcome(fire), is_status=True),
    Column(
        title="task or run",
        text=lambda fire: str(fire.task_id or fire.run_id or fire.blocker or ""),
        is_id=True,
        rank=1,
    ),
    Column(title="after", text=lambda fire: span(fire.decided_at - fire.tick), rank=3, right=True),
    Column(title="why", text=lambda fire: fire.detail or "", loose=True, rank=2),
)

_TICK_COLUMNS: Sequence[Column] = (
    Column(title="local", text=lambda row: f"{row[0].local:%a %Y-%m-%d %H:%M:%S}"),
    Column(title="zone", text=lambda row: row[0].local.tzname() or "", rank=3),
    Column(title="DST", text=lambda row: "summer" if row[0].local.dst() else "", rank=2),
    Column(title="UTC", text=lambda row: f"{row[0].at:%Y-%m-%d %H:%M:%SZ}", rank=1),
    Column(title="clocks", text=lambda row: row[1], loose=True),
)


def _outcome(fire: StoredFire) -> str:
    if fire.reason is None:
        return "fired" if fire.cause == "tick" else fire.cause
    return f"skipped ({fire.reason})"


def definition(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule for programs: its own fields and those of what it starts."""
    fields = record(schedule)
    return {**{key: value for key, value in fields.items() if key != "target"}, **fields["target"]}


def as_record(stored: StoredSchedule) -> dict[str, Any]:
    return {
        "id": str(stored.id),
        **masked_object(definition(stored.schedule)),
        "state": _state(stored),
        "when": _when(stored),
        **{key: record(getattr(stored, key)) for key in ("next_tick", "next_at", "last_id", "broken", "created_at")},
    }


async def show_schedule(client: Client, name: str, limit: int, output: OutputFormat) -> None:
    """Print the details of one schedule."""
    stored = await client.schedules.get(name)
    fires = await client.schedules.fires(name, limit=limit)
    ticks = [] if stored.broken else await client.schedules.next(name, count=3)
    if output is not OutputFormat.TABLE:
        show_record({**as_record(stored), "next": [as_tick(tick) for tick in ticks], "fires": record(fires)}, output)
        return
    from qw.cli.output.tables import print_table
    from qw.cli.output.views import print_fields

    print_fields({key: text for key, text in _fields(stored, ticks).items() if text})
    if fires:
        print()
        print_table(_FIRE_COLUMNS, fires)


def _fields(stored: StoredSchedule, ticks: Sequence[Tick]) -> dict[str, str]:
    schedule, target = stored.schedule, stored.schedule.target
    return {
        "schedule": stored.name,
        "id": str(stored.id),
        "about": schedule.description,
        "state": _state(stored),
        "broken": stored.broken or "",
        "when": _when(stored),
        "cron": schedule.cron or "",
        "next": ", ".join(f"{tick.local:%Y-%m-%d %H:%M:%S %Z}" for tick in ticks),
        "starts": describe_target(schedule),
        "with": dumped(masked(record(target.payload if isinstance(target, TaskTarget) else target.input))),
        "queue": f"{target.queue}, priority {target.priority}" if isinstance(target, TaskTarget) else "",
        "misfire": f"{schedule.misfire}, {_window(schedule)}",
        "overlap": str(schedule.overlap),
        "jitter": span(schedule.jitter) if schedule.jitter else "",
        "from": _at(schedule.start),
        "until": _at(schedule.end),
        "last": str(stored.last_id or ""),
    }


def _window(schedule: Schedule) -> str:
    return "however late" if schedule.window is None else f"up to {span(schedule.window)} late"


def _at(moment: datetime | None) -> str:
    return f"{clock(moment)}, {ago(moment)}" if moment else ""


def show_ticks(ticks: Sequence[Tick], output: OutputFormat) -> None:
    if output is not OutputFormat.TABLE:
        show_records([as_tick(tick) for tick in ticks], output)
        return
    from qw.cli.output.tables import print_table

    print_table(_TICK_COLUMNS, list(zip(ticks, _marks(ticks), strict=True)))


def as_tick(tick: Tick) -> dict[str, Any]:
    """Return a tick for programs. ``local`` includes the UTC offset."""
    dst = bool(tick.local.dst())
    return {
        "utc": record(tick.at),
        "local": tick.local.isoformat(),
        "zone": tick.local.tzname(),
        "dst": dst,
        "note": tick.note,
    }


def _marks(ticks: Sequence[Tick]) -> list[str]:
    """Describe clock changes since the previous tick, and how one shifted this tick."""
    marks = []
    for before, tick in zip([*ticks[:1], *ticks], ticks, strict=False):
        step = (tick.local.utcoffset() or timedelta(0)) - (before.local.utcoffset() or timedelta(0))
        change = f"{'forward' if step > timedelta(0) else 'back'} {span(abs(step))}" if step else ""
        marks.append("; ".join(part for part in (change, tick.note) if part))
    return marks


def show_fires(fires: Sequence[Fire], output: OutputFormat, *, made: bool) -> None:
    """Print the ticks of a backfill and the ids in *made*."""
    if output is not OutputFormat.TABLE:
        show_records([record({"tick": fire.tick, "id": fire.id if made else None}) for fire in fires], output)
        return
    from qw.cli.output.tables import print_table

    tick = Column(title="tick", text=lambda fire: f"{fire.tick:%Y-%m-%d %H:%M:%SZ}")
    id = Column(title="task or run", text=lambda fire: str(fire.id), is_id=True)
    print_table((tick, id) if made else (tick,), fires)
