"""How the console writes a time: ISO-like, 24 hours, in the member's zone and saying which, the exact UTC on hover.

The zone is Django's current one: the console activates the member's choice (access/middleware.py), and everywhere else,
in the API, in files and in jobs, it is UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.utils import timezone
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


def moment(at: datetime | None, *, absent: str = "—", now: datetime | None = None, seconds: bool = False) -> SafeString:
    """Return `at` as `2026-11-24 14:05 UTC` with the relative time below; `absent` where there is none."""
    if at is None:
        return format_html('<span class="kt-quiet">{}</span>', absent)
    return format_html(
        '<time class="kt-moment" datetime="{}" title="{}"><span>{}</span> <small>{}</small></time>',
        at.astimezone(UTC).isoformat(timespec="seconds"),
        exact(at),
        stamp(at, seconds=seconds),
        relative(at, now or clock.now()),
    )


def stamp(at: datetime, *, seconds: bool = False) -> str:
    """Return `at` as `2026-11-24 14:05 UTC`, in the current zone, which it names."""
    local = timezone.localtime(at)
    return f"{local:{'%Y-%m-%d %H:%M:%S' if seconds else '%Y-%m-%d %H:%M'}} {zone(at)}"


def exact(at: datetime) -> str:
    """Return `at` to the second in UTC, as `2026-11-24 14:05:09 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def zone(at: datetime | None = None) -> str:
    """Return what the current zone is called at `at` (now): `UTC`, `CET`; `UTC+03` for one without a name."""
    name = timezone.localtime(at or clock.now()).strftime("%Z")
    return name if name[:1].isalpha() else f"UTC{name}"


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
