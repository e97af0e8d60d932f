from __future__ import annotations

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "webhooks"
    verbose_name = "Notices"

    def ready(self) -> None:
        from webhooks import queueing  # noqa: F401  # listens to the audit log
