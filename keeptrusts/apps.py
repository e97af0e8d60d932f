from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class KeeptrustsConfig(AppConfig):
    name = "keeptrusts"
    verbose_name = "Keeptrusts"


class ConsoleConfig(AdminConfig):
    """Django's admin, with our site as the one that every `admin.py` registers with."""

    default_site = "keeptrusts.site.ConsoleSite"

    def ready(self) -> None:
        super().ready()
        from allauth.account.models import EmailAddress
        from allauth.mfa.models import Authenticator
        from django.contrib import admin
        from django.contrib.auth.models import Group

        # The role decides alone: Django's own groups mean nothing here. Second factors have verbs of their own.
        admin.site.unregister([Group, EmailAddress, Authenticator])
