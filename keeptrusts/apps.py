from __future__ import annotations

from django.apps import AppConfig


class KeeptrustsConfig(AppConfig):
    name = "keeptrusts"
    verbose_name = "Keeptrusts"
