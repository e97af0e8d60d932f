"""The gateways house's fragments of other houses' pages, which name this library and import nothing (design §10)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import template

from gateways.denials import by_reason
from keys.models import GatewayKey
from usage.figures import figures, of_key
from usage.reasons import REASONS

register = template.Library()


@register.inclusion_tag("gateways/key_denials.html")
def key_denials(key: GatewayKey) -> dict[str, Any]:
    """Draw why a key was refused in the last 24 hours and 7 days, each count leading to the requests."""
    rows = by_reason(key.pk)
    exact = figures(of_key(key.pk), window=timedelta(days=7)).denials
    kept = sum(row["week"] for row in rows)
    return {
        "key": key,
        "rows": [{**row, "words": REASONS.get(row["reason"], row["reason"])} for row in rows],
        "exact": exact,
        "kept": kept,
        "is_sample": kept < exact,
    }
