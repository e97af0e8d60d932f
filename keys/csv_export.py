"""The CSV of gateway keys that the console gives out: metadata alone, and nothing anywhere imports it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import tablib
from django.db.models import Case, CharField, F, FloatField, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, NullIf
from import_export.fields import Field
from import_export.formats.base_formats import CSV
from import_export.resources import ModelResource

from audit import clock
from audit.actions import AuditAction
from audit.csv_cells import Column, Kind
from audit.exports import Export, disarm
from keys.models import GatewayKey, KeyVersion
from keys.status import KeyStatus, in_status

SYSTEM: Final = Value("system")


def key_export(now: datetime) -> Export:
    """Return the file of gateway keys, whose statuses are those at `now`."""
    return Export(AuditAction.KEY_EXPORTED, "gateway_key", "gateway-keys.csv", key_columns(now))


def key_columns(now: datetime) -> tuple[Column, ...]:
    """Return the columns of a file of gateway keys. What is never among them: a value, or its digest."""
    return (
        Column("id", Kind.NUMBER),
        Column("name", Kind.TEXT),
        Column("description", Kind.TEXT),
        Column("consumer_group", Kind.WORD, "consumer_group__slug"),
        Column("status", Kind.WORD, status_at(now)),
        Column("hint", Kind.WORD),
        Column("version", Kind.NUMBER, current_version()),
        Column("created_at", Kind.INSTANT),
        Column("created_by", Kind.TEXT, Coalesce("created_by__username", SYSTEM)),
        Column("owner", Kind.TEXT, "owner__username"),
        Column("expires_at", Kind.INSTANT),
        Column("allowed_networks", Kind.LIST),
        Column("disabled_at", Kind.INSTANT),
        Column("revoked_at", Kind.INSTANT),
        Column(
            "revoked_by",
            Kind.TEXT,
            Case(When(revoked_at__isnull=False, then=Coalesce("revoked_by__username", SYSTEM))),
        ),
        Column("revoke_reason", Kind.TEXT),
        Column("total_requests", Kind.NUMBER, Coalesce("metrics__total_requests", Value(0))),
        Column("last_used_at", Kind.INSTANT, "metrics__last_used_at"),
        Column("requests_24h", Kind.NUMBER, Coalesce("metrics__requests_24h", Value(0))),
        Column("error_rate", Kind.NUMBER, _rate("metrics__total_errors", "metrics__total_reported")),
        Column("error_rate_24h", Kind.NUMBER, _rate("metrics__errors_24h", "metrics__reported_24h")),
    )


def status_at(now: datetime) -> Case:
    """Return a key's status at `now`, in the query."""
    statuses = (When(in_status(status, now), then=Value(status.value)) for status in KeyStatus)
    return Case(*statuses, output_field=CharField())


def current_version() -> Subquery:
    """Return the number of a key's current version, in the query."""
    return Subquery(KeyVersion.objects.filter(key=OuterRef("pk"), valid_until__isnull=True).values("number"))


def _rate(errors: str, reported: str) -> Combinable:
    return Cast(F(errors), FloatField()) / NullIf(Cast(F(reported), FloatField()), Value(0.0))


# The same as in the API's export.
COLUMNS: Final = (
    *("id", "name", "description", "consumer_group", "status", "hint", "version", "created_at", "created_by", "owner"),
    *("expires_at", "allowed_networks", "disabled_at", "revoked_at", "revoked_by", "revoke_reason"),
    *("total_requests", "last_used_at", "requests_24h", "error_rate", "error_rate_24h"),
)


def csv_of(keys: QuerySet[GatewayKey]) -> tuple[str, int]:
    """Return the CSV of `keys`, whose group, members and metrics should be joined, and how many rows it has."""
    dataset = KeyResource().export(with_version(keys))
    return DisarmedCSV().export_data(dataset), len(dataset)


def with_version(keys: QuerySet[GatewayKey]) -> QuerySet[GatewayKey]:
    """Return `keys`, each with the number of its current version, which `cell` needs."""
    current = KeyVersion.objects.filter(key=OuterRef("pk"), valid_until__isnull=True)
    return keys.annotate(version=Subquery(current.values("number")))


class DisarmedCSV(CSV):
    """CSV with no cell that a spreadsheet would take for a formula."""

    def export_data(self, dataset: tablib.Dataset, **kwargs: Any) -> str:
        rows = ([disarm(cell) for cell in row] for row in dataset)
        text: str = super().export_data(tablib.Dataset(*rows, headers=dataset.headers), **kwargs)
        return text


class KeyResource(ModelResource):
    """One row a key, with the columns named here and no others."""

    status = Field(column_name="status")
    version = Field(column_name="version")
    total_requests = Field(column_name="total_requests")
    last_used_at = Field(column_name="last_used_at")
    requests_24h = Field(column_name="requests_24h")
    error_rate = Field(column_name="error_rate")
    error_rate_24h = Field(column_name="error_rate_24h")

    class Meta:
        model = GatewayKey
        fields = COLUMNS
        export_order = COLUMNS

    def export_field(self, field: Field, instance: GatewayKey, **kwargs: Any) -> Any:
        """Return the cell as it is; disarm() turns it into text."""
        return cell(instance, field.column_name)


def cell(key: GatewayKey, column: str) -> object:
    """Return what stands in `column` for `key`."""
    match column:
        case "status":
            return key.status_at(clock.now()).value
        case "consumer_group":
            return key.consumer_group.slug if key.consumer_group else None
        case "created_by":
            return key.created_by.username if key.created_by else "system"
        case "owner":
            return key.owner.username if key.owner else None
        case "revoked_by" if key.revoked_at is not None:
            return key.revoked_by.username if key.revoked_by else "system"
        case "allowed_networks":
            return " ".join(key.allowed_networks)
        case "total_requests" | "requests_24h":
            return getattr(getattr(key, "metrics", None), column, 0)
        case "last_used_at" | "error_rate" | "error_rate_24h":
            return getattr(getattr(key, "metrics", None), column, None)
        case _:
            return getattr(key, column)
