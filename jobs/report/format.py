"""Formats of numbers, times and durations in a report."""

import math
from datetime import UTC, datetime
from typing import Any

NOTHING = "\u2013"
_MINUS = "\u2212"


def whole(value: int) -> str:
    """Formats a count with its thousands set apart: `100,000`."""
    return f"{value:,}"


def short(value: float | None) -> str:
    """Formats a figure in about three digits: `0.214`, `25.3`, `1,250`; None is a dash."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", _MINUS)
    return f"{value:.3g}".replace("-", _MINUS)


def share(part: float, total: float) -> str:
    """Formats a part of a total in per cent: `12.5 %`, `100 %`; a dash where the total is 0."""
    if not total:
        return NOTHING
    percent = 100 * part / total
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def duration(seconds: float | None) -> str:
    """Formats seconds as people say them: `4.2 s`, `3 min 42 s`, `5 h 7 min`."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def moment(value: Any) -> str:
    """Formats a time, in ISO 8601 or in seconds since 1970, as `23 Nov 2026, 15:30 UTC`."""
    time = _parse(value)
    if time is None:
        return str(value)
    if time.tzinfo is not None:
        time = time.astimezone(UTC)
    return f"{time.day} {time:%b %Y, %H:%M}" + (" UTC" if time.tzinfo else "")


def _parse(value: Any) -> datetime | None:
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        return datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
