"""What others may build on."""

from __future__ import annotations

from django.dispatch import Signal

# Sent by record() inside the transaction of the change, with `entry`. An exception undoes the change.
entry_recorded = Signal()
