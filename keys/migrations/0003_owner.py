from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def name_owners(apps: Any, schema_editor: Any) -> None:
    """Whoever made a key answers for it, until somebody says otherwise."""
    apps.get_model("keys", "GatewayKey").objects.filter(owner=None).update(owner=models.F("created_by"))


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0002_invalidation"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="gatewaykey",
            name="owner",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="owned_keys",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddIndex(
            model_name="gatewaykey",
            index=models.Index(fields=["owner", "-created_at", "id"], name="key_owner_newest"),
        ),
        migrations.RunPython(name_owners, migrations.RunPython.noop),
    ]
