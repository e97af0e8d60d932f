"""The Celery application: what runs beside the console, on Redis or on a folder."""

from __future__ import annotations

import os
import warnings
from typing import Any

from celery import Celery
from celery.signals import setup_logging

from keeptrusts import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keeptrusts.settings")

broker.register()
app = Celery("keeptrusts")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_configure.connect
def _prepare_broker(sender: Celery, **kwargs: Any) -> None:
    broker.prepare_folders(sender.conf.broker_transport_options)


# Said of pickle, which is not accepted here: every message is JSON.
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")


@setup_logging.connect
def _keep_logging(**kwargs: Any) -> None:
    """Django's LOGGING stands, with its redaction: a receiver here is what keeps Celery from adding handlers."""
