from __future__ import annotations

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import audit.clock
import webhooks.models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("keys", "0004_search"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="KeyNotices",
            fields=[
                (
                    "key",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="keys.gatewaykey",
                    ),
                ),
                ("last_sequence", models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="SweepMark",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("until", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "Waiting"), ("delivered", "Delivered"), ("failed", "Failed")],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("tries", models.PositiveSmallIntegerField(default=0)),
                ("created_at", models.DateTimeField(verbose_name="queued")),
                ("next_attempt_at", models.DateTimeField(null=True, verbose_name="next attempt")),
                ("handed_at", models.DateTimeField(null=True)),
                ("claimed_until", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True, verbose_name="finished")),
                ("note", models.CharField(blank=True, max_length=300)),
                (
                    "recipient",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "ordering": ["-created_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("status", models.PositiveSmallIntegerField(null=True)),
                ("duration_ms", models.PositiveIntegerField()),
                ("error", models.CharField(blank=True, max_length=300)),
                ("answer", models.TextField(blank=True)),
                (
                    "delivery",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="attempts", to="webhooks.delivery"
                    ),
                ),
            ],
            options={
                "ordering": ["at", "id"],
            },
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=webhooks.models.new_notice_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "type",
                    models.CharField(
                        choices=[
                            ("gateway_key.created", "Key created"),
                            ("gateway_key.edited", "Key edited"),
                            ("gateway_key.rotated", "Key rotated"),
                            ("gateway_key.grace_ending", "Grace ends soon"),
                            ("gateway_key.grace_extended", "Grace extended"),
                            ("gateway_key.grace_ended", "Grace ended"),
                            ("gateway_key.expiring", "Key expires soon"),
                            ("gateway_key.expired", "Key expired"),
                            ("gateway_key.disabled", "Key disabled"),
                            ("gateway_key.enabled", "Key enabled"),
                            ("gateway_key.revoked", "Key revoked"),
                            ("gateway_key.idle", "Key is idle"),
                            ("gateway_key.used_after_revocation", "Used after revocation"),
                            ("audit.altered", "Audit log found altered"),
                            ("webhook_endpoint.disabled", "Webhook endpoint disabled"),
                            ("webhook_endpoint.test", "Test"),
                        ],
                        max_length=64,
                    ),
                ),
                ("cause", models.CharField(max_length=200, unique=True)),
                ("sequence", models.PositiveIntegerField(null=True)),
                ("about_at", models.DateTimeField(null=True)),
                ("threshold", models.PositiveSmallIntegerField(null=True)),
                ("body", models.TextField()),
                ("occurred_at", models.DateTimeField()),
                (
                    "key",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="keys.gatewaykey",
                    ),
                ),
            ],
            options={
                "ordering": ["-occurred_at", "-id"],
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="notice",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="webhooks.notice"
            ),
        ),
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=100, unique=True)),
                ("url", models.CharField(max_length=500, verbose_name="address")),
                ("description", models.TextField(blank=True, max_length=2000)),
                ("event_types", models.JSONField(blank=True, default=list)),
                ("created_at", models.DateTimeField(default=audit.clock.now, editable=False, verbose_name="created")),
                ("disabled_at", models.DateTimeField(blank=True, editable=False, null=True, verbose_name="disabled")),
                ("disabled_reason", models.CharField(blank=True, editable=False, max_length=300)),
                (
                    "delivered_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="last delivery"),
                ),
                ("failing_since", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="webhook_endpoints",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "webhook endpoint",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="EndpointSecret",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sealed", models.TextField()),
                ("hint", models.CharField(max_length=16)),
                ("created_at", models.DateTimeField(verbose_name="created")),
                ("valid_until", models.DateTimeField(blank=True, null=True)),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="secrets",
                        to="webhooks.webhookendpoint",
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at", "-id"],
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="endpoint",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="deliveries",
                to="webhooks.webhookendpoint",
            ),
        ),
        migrations.AddIndex(
            model_name="notice",
            index=models.Index(fields=["key", "type", "about_at"], name="notice_warning"),
        ),
        migrations.AddIndex(
            model_name="notice",
            index=models.Index(fields=["occurred_at"], name="notice_occurred"),
        ),
        migrations.AddConstraint(
            model_name="notice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("key__isnull", True), ("sequence__isnull", True)),
                    models.Q(("key__isnull", False), ("sequence__isnull", False)),
                    _connector="OR",
                ),
                name="notice_of_key_numbered",
            ),
        ),
        migrations.AddConstraint(
            model_name="notice",
            constraint=models.UniqueConstraint(models.F("key"), models.F("sequence"), name="notice_number_once"),
        ),
        migrations.AddConstraint(
            model_name="webhookendpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(("name", ""), _negated=True), name="webhook_name_given"
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookendpoint",
            constraint=models.CheckConstraint(condition=models.Q(("url", ""), _negated=True), name="webhook_url_given"),
        ),
        migrations.AddConstraint(
            model_name="webhookendpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(("disabled_at__isnull", False), ("disabled_reason", ""), _connector="OR"),
                name="webhook_disabling_whole",
            ),
        ),
        migrations.AddConstraint(
            model_name="endpointsecret",
            constraint=models.CheckConstraint(
                condition=models.Q(("sealed", ""), _negated=True), name="webhook_secret_given"
            ),
        ),
        migrations.AddConstraint(
            model_name="endpointsecret",
            constraint=models.UniqueConstraint(
                models.F("endpoint"), condition=models.Q(("valid_until__isnull", True)), name="webhook_secret_current"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "pending")), fields=["next_attempt_at"], name="delivery_due"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["endpoint", "-created_at", "-id"], name="delivery_endpoint_newest"),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("endpoint__isnull", False), ("recipient__isnull", True)),
                    models.Q(("endpoint__isnull", True), ("recipient__isnull", False)),
                    _connector="OR",
                ),
                name="delivery_to_one",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("finished_at__isnull", True), ("next_attempt_at__isnull", False), ("state", "pending")),
                    models.Q(
                        models.Q(("state", "pending"), _negated=True),
                        ("finished_at__isnull", False),
                        ("next_attempt_at__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="delivery_pending_or_finished",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                models.F("notice"), models.F("endpoint"), name="delivery_once_an_endpoint"
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                models.F("notice"), models.F("recipient"), name="delivery_once_a_member"
            ),
        ),
    ]
