"""An entry as a person reads it: fields by what they are called, times and spans in words, groups by their names.

The log keeps what it was given, and that alone is hashed; what is said here is made of it when it is read. A group's
slug never changes, so its name of today is the name of the group that was meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.apps import apps

from audit.models import AuditEntry
from audit.moments import stamp

ABSENT: Final = "—"
# What a field is called where its name in the log says it badly.
FIELD_WORDS: Final = {
    "grace_seconds": "Grace",
    "max_grace_seconds": "Longest grace",
    "is_active": "May sign in",
    "default_lifetime_days": "Default lifetime, days",
    "max_lifetime_days": "Longest lifetime, days",
    "expiry_required": "Expiry is mandatory",
    "revoke_reason": "Reason for revoking",
    "grace_until": "Old value accepted until",
    "code": "Why it was refused",
}
# Fields that hold slugs of groups.
GROUPS: Final = frozenset({"consumer_group", "consumer_groups", "groups_to_manage"})
# An id beside what it is the id of says nothing more to a person.
BESIDE: Final = {"consumer_group_id": "consumer_group", "owner_id": "owner"}
UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


class Reading:
    """What an entry says, for `reader`: a group that they may not see is told by its slug alone, as it is recorded."""

    def __init__(self, entry: AuditEntry, reader: Any = None) -> None:
        self._entry = entry
        self._names = _names_of(set(self._slugs()), reader)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return, for each field that an entry tells of, its name and what it was before and after.

        Of an object that is new, the fields that are empty say nothing and are left out.
        """
        before, after = self._entry.before, self._entry.after
        fields = set(before) | set(after)
        told = (field for field in fields if BESIDE.get(field) not in fields)
        rows = [
            (name_of(field), self._told(before.get(field), field), self._told(after.get(field), field))
            for field in sorted(told)
        ]
        return [row for row in rows if before or row[2] != ABSENT]

    def facts(self) -> list[tuple[str, str]]:
        """Return what else is known of what was done."""
        return [(name_of(field), self._told(value, field)) for field, value in sorted(self._entry.detail.items())]

    def _slugs(self) -> Iterator[str]:
        for facts in (self._entry.before, self._entry.after, self._entry.detail):
            for field in GROUPS & facts.keys():
                value = facts[field]
                yield from (slug for slug in (value if isinstance(value, list) else [value]) if isinstance(slug, str))

    def _told(self, value: Any, field: str = "") -> str:
        match value:
            case None | "" | []:
                return ABSENT
            case True:
                return "yes"
            case False:
                return "no"
            case list():
                return ", ".join(self._told(item, field) for item in value)
            case dict():
                return ", ".join(f"{name_of(name)}: {self._told(item, name)}" for name, item in value.items())
            case str() if field in GROUPS:
                return f"{self._names[value]} ({value})" if value in self._names else value
            case str():
                return _moment(value) or value
            case int() if field == "lifetime" or field.endswith("_seconds"):
                return span(timedelta(seconds=value))
            case int():
                return f"{value:,}" if not field.endswith("id") else str(value)
            case _:
                return str(value)


def name_of(field: str) -> str:
    """Return what a field is called."""
    return FIELD_WORDS.get(field) or field.replace("_", " ").capitalize()


def span(length: timedelta) -> str:
    """Return a span to the second, in words: "90 days", "1 hour 30 minutes"."""
    left, words = int(length.total_seconds()), []
    for unit, seconds in UNITS:
        count, left = divmod(left, seconds)
        if count:
            words.append(f"{count:,} {unit}{'' if count == 1 else 's'}")
    return " ".join(words) or "none"


def _names_of(slugs: set[str], reader: Any) -> dict[str, str]:
    if not slugs or reader is None:
        return {}
    # A model of a house above, by its name (design §10), and of it only what they see.
    groups = apps.get_model("keys", "ConsumerGroup")._default_manager.filter(slug__in=slugs)
    return dict(reader.visible(groups).values_list("slug", "name"))


def _moment(value: str) -> str:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return ""
    return stamp(at, seconds=True) if at.tzinfo is not None else ""
