from __future__ import annotations

from django.apps import AppConfig


class UsageConfig(AppConfig):
    name = "usage"
    verbose_name = "Evidence"

    def ready(self) -> None:
        from usage import visibility  # noqa: F401  # registers its rules
