"""How the console writes a time: ISO-like, 24 hours, always UTC and saying so, with what it means beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit import clock

# A span is told in the first unit of which it has so many: "45 days" says more than "2 months".
UNITS = (
    ("year", timedelta(days=365), 2),
    ("month", timedelta(days=30), 3),
    ("day", timedelta(days=1), 1),
    ("hour", timedelta(hours=1), 1),
    ("minute", timedelta(minutes=1), 1),
)


def moment(at: datetime | None, *, absent: str = "—", now: datetime | None = None) -> SafeString:
    """Return `at` as `2026-11-24 14:05 UTC` with the relative time below; `absent` where there is none."""
    if at is None:
        return format_html('<span class="kt-quiet">{}</span>', absent)
    at = at.astimezone(UTC)
    return format_html(
        '<time class="kt-moment" datetime="{}" title="{} UTC"><span>{} UTC</span> <small>{}</small></time>',
        at.isoformat(timespec="seconds"),
        at.strftime("%Y-%m-%d %H:%M:%S"),
        at.strftime("%Y-%m-%d %H:%M"),
        relative(at, now or clock.now()),
    )


def relative(at: datetime, now: datetime) -> str:
    """Return how far `at` is from `now`, in words: "in 3 days", "2 hours ago", "just now"."""
    span = abs(at - now)
    if span < timedelta(minutes=1):
        return "just now" if at <= now else "in a moment"
    words = duration(span)
    return f"in {words}" if at > now else f"{words} ago"


def duration(span: timedelta) -> str:
    """Return a span in its largest fitting unit, rounded: "3 days", "1 hour", "40 seconds"."""
    for name, length, fewest in UNITS:
        if span >= length * fewest:
            # Rounded, so that a key made a moment ago for 30 days does not expire "in 29 days".
            return _counted(round(span / length), name)
    return _counted(int(span.total_seconds()), "second")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"
