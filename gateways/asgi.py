"""The door of the data plane, for `keeptrusts.asgi` and for servers that serve it alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import django
from django.apps import apps
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from gateways.plane import DataPlane

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keeptrusts.settings")
if not apps.ready:
    django.setup()

# By name, because it uses models: it can be imported only now that Django is set up.
application: DataPlane = import_string("gateways.plane.DataPlane")()
