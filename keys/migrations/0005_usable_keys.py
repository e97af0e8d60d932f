"""An index of the keys that are accepted, to count them without a look at the table."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("keys", "0004_search")]

    operations = [
        migrations.AddIndex(
            "gatewaykey",
            models.Index(
                fields=["expires_at"],
                name="key_usable",
                condition=Q(revoked_at__isnull=True, disabled_at__isnull=True),
            ),
        ),
    ]
