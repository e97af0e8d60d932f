"""Before keys are revoked because nobody uses them, every use that was counted is added up."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.dispatch import receiver

from keys.idle import counts_wanted
from usage.models import PendingTallies
from usage.tallies import add_up


@receiver(counts_wanted)
def add_up_all(**_: Any) -> None:
    """Return when every request that was written before is in the figures of its key, whoever adds it up."""
    add_up()
    if connection.features.has_select_for_update and PendingTallies.objects.exists():
        with transaction.atomic():
            # What was left out, because somebody else had it, is waited for.
            list(PendingTallies.objects.select_for_update().order_by("id").values_list("pk", flat=True))
