"""Days as people write them, as the moments that solves look back to."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

__all__ = ["end_of_day", "ends_of_months"]


def end_of_day(day: date) -> datetime:
    """Return the last moment of a day (UTC)."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(days=1, microseconds=-1)


def ends_of_months(first: date, last: date) -> tuple[date, ...]:
    """Return the last day of each month, from the one of ``first`` to the one of ``last``."""
    months = range(first.year * 12 + first.month, last.year * 12 + last.month + 1)
    return tuple(date(month // 12, month % 12 + 1, 1) - timedelta(days=1) for month in months)
