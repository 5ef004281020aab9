"""Text for a terminal: control sequences are escaped, times and durations are readable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from qw.clock import clock as database_clock

_NAMES = {9: "\\t", 10: "\\n", 13: "\\r"}
_STEERING = (*range(32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_ESCAPES = {code: _NAMES.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}") for code in _STEERING}
_ESCAPES |= {code: f"\\x{code - 0xDC00:02x}" for code in range(0xDC80, 0xDD00)}  # bytes that are not UTF-8
_IN_JSON = {code: f"\\u{code:04x}" for code in _STEERING if code >= 127}
_IN_LINES = {code: text for code, text in _ESCAPES.items() if code not in (9, 10)}


def printable(text: str) -> str:
    """Return *text* on one line, with control characters and bidirectional overrides escaped."""
    return text.translate(_ESCAPES)


def printable_lines(text: str) -> str:
    """Escape like `printable`, but keep line breaks and tabs."""
    return text.translate(_IN_LINES)


def printable_json(text: str) -> str:
    """Escape the characters in JSON that JSON itself permits; the result is equivalent JSON."""
    return text.translate(_IN_JSON)


def iso(moment: datetime) -> str:
    """Return ``2026-11-24T04:11:19.512Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(moment: datetime) -> str:
    """Return local time, with the date unless it is today."""
    local = moment.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M")


def span(duration: timedelta) -> str:
    """Return an approximate duration: ``85 ms``, ``2.4 s``, ``3 m 20 s``, ``5 h``, ``12 d``."""
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} m {rest} s" if rest else f"{minutes} m"
    if minutes < 120:
        return f"{minutes} m"
    return f"{minutes // 60} h" if minutes < 2 * 24 * 60 else f"{minutes // (24 * 60)} d"


def ago(moment: datetime | None) -> str:
    if moment is None:
        return ""
    distance = database_clock.now() - moment
    return f"in {span(-distance)}" if distance < timedelta(0) else f"{span(distance)} ago"


def off_by(skew: timedelta) -> str:
    """Return ``2 m ahead`` or ``5 h behind``; empty for less than a second."""
    if abs(skew) < timedelta(seconds=1):
        return ""
    return f"{span(abs(skew))} {'ahead' if skew > timedelta(0) else 'behind'}"


def counted(number: int, noun: str) -> str:
    """Return ``1 task``, ``2,000 tasks``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
