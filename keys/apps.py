from __future__ import annotations

from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = "Settings"

    def ready(self) -> None:
        from keys import joining, visibility  # noqa: F401  # what they register
