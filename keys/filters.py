"""What lists of keys can be narrowed by."""

from __future__ import annotations

import django_filters

from audit.parameters import DaysFilter, FlagFilter, InstantFilter, TextFilter
from keys.models import GatewayKey, GatewayKeyQuerySet
from keys.status import KeyStatus


class KeyFilters(django_filters.FilterSet):
    status = django_filters.MultipleChoiceFilter(
        choices=KeyStatus.choices, method="in_status", help_text="May be said several times: in one of them."
    )
    consumer_group = TextFilter("consumer_group__slug", help_text="A slug.")
    owner = TextFilter("owner__username", help_text="A username.")
    owner_left = FlagFilter(method="has_no_owner", help_text="Keys whose owner was taken out or is nobody, or others.")
    unscoped = FlagFilter(method="is_unscoped", help_text="Keys for traffic of every group, or the others.")
    expires_before = InstantFilter("expires_at", "lt")
    expires_after = InstantFilter("expires_at", "gte")
    expiring_within_days = DaysFilter(method="expiring_within", help_text="Neither expired nor revoked, but soon.")
    no_expiry = FlagFilter("expires_at", "isnull")
    created_before = InstantFilter("created_at", "lt")
    created_after = InstantFilter("created_at", "gte")
    last_used_before = InstantFilter("metrics__last_used_at", "lt", help_text="Used, but not since then.")
    never_used = FlagFilter("metrics__last_used_at", "isnull")
    unused_for_days = DaysFilter(method="unused_for", help_text="Older than that, and not used in that time.")

    class Meta:
        model = GatewayKey
        fields: list[str] = []

    def in_status(self, keys: GatewayKeyQuerySet, name: str, statuses: list[str]) -> GatewayKeyQuerySet:
        return keys.in_status(*(KeyStatus(status) for status in statuses)) if statuses else keys

    def is_unscoped(self, keys: GatewayKeyQuerySet, name: str, wanted: bool) -> GatewayKeyQuerySet:
        return keys.unscoped() if wanted else keys.filter(consumer_group__isnull=False)

    def has_no_owner(self, keys: GatewayKeyQuerySet, name: str, wanted: bool) -> GatewayKeyQuerySet:
        return keys.owner_left() if wanted else keys.filter(owner__is_active=True)

    def expiring_within(self, keys: GatewayKeyQuerySet, name: str, days: int) -> GatewayKeyQuerySet:
        return keys.expiring_within(days)

    def unused_for(self, keys: GatewayKeyQuerySet, name: str, days: int) -> GatewayKeyQuerySet:
        return keys.unused_for(days)
