"""Searching and sorting a long audit log: trigrams on PostgreSQL for parts of names, and an index to sort by who.

SQLite, which is for small installations, gets the plain index and looks through its rows for parts of words.
"""

from __future__ import annotations

from django.db import migrations, models

from audit.trigrams import trigrams


class Migration(migrations.Migration):
    # Concurrently: nobody who writes entries waits.
    atomic = False
    dependencies = [("audit", "0004_grace_extended")]

    operations = [
        migrations.AddIndex("auditentry", models.Index(fields=["actor_label", "-id"], name="audit_entry_who")),
        trigrams(
            {
                "audit_entry_object_trigrams": ("audit_auditentry", "object_label"),
                "audit_entry_actor_trigrams": ("audit_auditentry", "actor_label"),
            }
        ),
    ]
