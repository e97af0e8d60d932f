from __future__ import annotations

from access import access_key_admin, member_admin, preferences  # noqa: F401  # they register themselves
