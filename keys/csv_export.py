"""The CSV of gateway keys that the console gives out: metadata alone, and nothing anywhere imports it."""

from __future__ import annotations

from typing import Any, Final

import tablib
from django.db.models import OuterRef, QuerySet, Subquery
from import_export.fields import Field
from import_export.formats.base_formats import CSV
from import_export.resources import ModelResource

from audit import clock
from audit.exports import disarm
from keys.models import GatewayKey, KeyVersion

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
