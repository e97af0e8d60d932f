"""A worker that is there to be killed: a program that sends whatever is due, until it is.

python -m tests.webhooks.killing DATABASE
"""

from __future__ import annotations

import ipaddress
import sys
import time
from datetime import timedelta

import django
from django.conf import settings


def main(database: str) -> None:
    settings.DATABASES["default"]["NAME"] = database
    settings.KEEPTRUSTS_WEBHOOK_ALLOW_HTTP = True
    settings.KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    django.setup()

    from audit import clock
    from webhooks import delivering
    from webhooks.models import Delivery, DeliveryState

    # Nobody wants to wait for what a dead one has claimed.
    delivering.CLAIM = timedelta(seconds=1)  # type: ignore[misc]  # in this program alone
    print("ready", flush=True)
    while True:
        due = Delivery.objects.filter(state=DeliveryState.PENDING, next_attempt_at__lte=clock.now())
        for pk in list(due.order_by("?").values_list("pk", flat=True)[:20]):
            delivering.deliver(pk)
        time.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1])
