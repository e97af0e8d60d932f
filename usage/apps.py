from __future__ import annotations

from django.apps import AppConfig


class UsageConfig(AppConfig):
    name = "usage"
    verbose_name = "Evidence"

    def ready(self) -> None:
        from usage import idle, visibility  # noqa: F401  # registers its rules, and what it adds up when it is asked
