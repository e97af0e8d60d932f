"""Indexes by which denials are found: those of a key, of a group, and from an address."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


def _of(field: str, name: str) -> migrations.AddIndex:
    index = models.Index(fields=[field, "-occurred_at", "-id"], name=name, condition=~Q(reason=""))
    return migrations.AddIndex("usageevent", index)


class Migration(migrations.Migration):
    dependencies = [("usage", "0006_usage_pages")]

    operations = [
        _of("key", "usage_denied_key"),
        _of("consumer_group", "usage_denied_group"),
        _of("client_ip", "usage_denied_from"),
    ]
