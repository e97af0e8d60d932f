"""Searching and sorting many keys: trigrams on PostgreSQL for parts of words, and an index for each column to sort by.

SQLite, which is for small installations, gets the plain indexes and looks through its rows for parts of words.
"""

from __future__ import annotations

from django.db import migrations, models

from audit.trigrams import trigrams


class Migration(migrations.Migration):
    # Concurrently: nobody who writes keys waits.
    atomic = False
    dependencies = [("keys", "0003_owner")]

    operations = [
        migrations.AddIndex("gatewaykey", models.Index(fields=["hint", "id"], name="key_hint")),
        migrations.AddIndex(
            "gatewaykey", models.Index(fields=["hint"], name="key_hint_start", opclasses=["varchar_pattern_ops"])
        ),
        migrations.AddIndex(
            "keyversion", models.Index(fields=["hint"], name="version_hint_start", opclasses=["varchar_pattern_ops"])
        ),
        trigrams(
            {
                "key_name_trigrams": ("keys_gatewaykey", "name"),
                "key_description_trigrams": ("keys_gatewaykey", "description"),
            }
        ),
    ]
