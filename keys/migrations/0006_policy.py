from typing import Any

import django.core.validators
from django.db import migrations, models
from django.db.models import Max, OuterRef, Subquery


def begin(apps: Any, schema_editor: Any) -> None:
    """Write the one policy, without a rule, and count the idleness of rotated keys from their last rotation."""
    apps.get_model("keys", "InstallationPolicy").objects.create(pk=1)
    versions = apps.get_model("keys", "KeyVersion").objects.filter(key=OuterRef("pk")).order_by().values("key")
    last = versions.annotate(last=Max("created_at")).values("last")
    rotated = apps.get_model("keys", "GatewayKey").objects.filter(versions__number__gt=1)
    rotated.update(idle_from=Subquery(last))


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0005_usable_keys"),
    ]

    operations = [
        migrations.AddField(
            model_name="consumergroup",
            name="idle_since",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="gatewaykey",
            name="idle_from",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.CreateModel(
            name="InstallationPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "default_lifetime_days",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="The expiry proposed for a new key.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(36500),
                        ],
                        verbose_name="default lifetime (days)",
                    ),
                ),
                (
                    "max_lifetime_days",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="No key may be set to expire later than this.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(36500),
                        ],
                        verbose_name="maximum lifetime (days)",
                    ),
                ),
                ("expiry_required", models.BooleanField(default=False, verbose_name="expiry is mandatory")),
                (
                    "max_grace_seconds",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="How long at most an old value stays accepted after a rotation. 0: rotation is immediate.",
                        null=True,
                        validators=[django.core.validators.MaxValueValidator(31536000)],
                        verbose_name="longest grace (seconds)",
                    ),
                ),
                (
                    "allowed_networks",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Networks (CIDR) that the group's traffic may come from. None: anywhere.",
                    ),
                ),
                (
                    "idle_days",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Keys that nobody has used for so long are revoked.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(36500),
                        ],
                        verbose_name="revoke when unused for (days)",
                    ),
                ),
                ("idle_since", models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("pk", 1)), name="installation_policy_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("default_lifetime_days__isnull", True),
                            ("max_lifetime_days__isnull", True),
                            ("default_lifetime_days__lte", models.F("max_lifetime_days")),
                            _connector="OR",
                        ),
                        name="installation_default_lifetime_within_maximum",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("default_lifetime_days__isnull", True),
                            models.Q(("default_lifetime_days__gte", 1), ("default_lifetime_days__lte", 36500)),
                            _connector="OR",
                        ),
                        name="installation_default_lifetime_days_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_lifetime_days__isnull", True),
                            models.Q(("max_lifetime_days__gte", 1), ("max_lifetime_days__lte", 36500)),
                            _connector="OR",
                        ),
                        name="installation_max_lifetime_days_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("idle_days__isnull", True),
                            models.Q(("idle_days__gte", 1), ("idle_days__lte", 36500)),
                            _connector="OR",
                        ),
                        name="installation_idle_days_in_range",
                    ),
                ],
            },
        ),
        migrations.RunPython(begin, migrations.RunPython.noop),
    ]
