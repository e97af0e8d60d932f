"""A search of the audit log that finds nothing, or little: by the id of an object, and by the name of an access key."""

from __future__ import annotations

from django.db import migrations, models

from audit.trigrams import trigrams


class Migration(migrations.Migration):
    # Concurrently: nobody who writes entries waits.
    atomic = False
    dependencies = [("audit", "0006_invitations")]

    operations = [
        migrations.AddIndex("auditentry", models.Index(fields=["object_id", "-id"], name="audit_entry_object_id")),
        trigrams({"audit_entry_credential_trigrams": ("audit_auditentry", "credential")}),
    ]
