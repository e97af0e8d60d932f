"""The explicit signal of this house."""

from __future__ import annotations

from django.dispatch import Signal

# Sent with `invitation` and `actor` inside the transaction in which an invited member joins: what was chosen for them
# at the invitation, and is written by a house above, holds from then on or nothing does.
joined = Signal()
