from __future__ import annotations

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "access"
    verbose_name = "Team"

    def ready(self) -> None:
        from access import sign_in, visibility  # noqa: F401  # they register themselves
