"""Indexes for what is rare among the events: denials by their reason, and answers that are no success."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("usage", "0004_pending_tallies")]

    operations = [
        migrations.AddIndex(
            "usageevent",
            models.Index(fields=["reason", "-occurred_at", "-id"], name="usage_event_denied", condition=~Q(reason="")),
        ),
        migrations.AddIndex(
            "usageevent",
            models.Index(
                fields=["status", "-occurred_at", "-id"],
                name="usage_event_unusual",
                condition=Q(status__lt=200) | Q(status__gte=300),
            ),
        ),
    ]
