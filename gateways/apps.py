from __future__ import annotations

from django.apps import AppConfig


class GatewaysConfig(AppConfig):
    name = "gateways"
    verbose_name = "Settings"

    def ready(self) -> None:
        from gateways import enforcement, visibility  # noqa: F401  # they register themselves
