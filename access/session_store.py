"""Where sessions are kept: as Django's own database store, with who, from where and since when beside each.

A session that was not used for KEEPTRUSTS_SESSION_IDLE, or is older than its lifetime, is not found any more: no code
that asks who is signed in has to know of either.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast

from django.conf import settings
from django.contrib.sessions.backends import db
from django.core.exceptions import SuspiciousOperation
from django.db.models import Q

from audit import clock

if TYPE_CHECKING:
    from access.models import MemberSession

# What a session says of itself, under this name: written at sign-in (access/sessions.py).
ABOUT: Final = "sign_in"
log = logging.getLogger("django.security.SuspiciousSession")


class SessionStore(db.SessionStore):
    # The row as it was found, for whoever wants to know when it was last used.
    row: MemberSession | None = None

    @classmethod
    def get_model_class(cls) -> type[MemberSession]:
        from access.models import MemberSession

        return MemberSession

    def _get_session_from_db(self) -> MemberSession | None:
        self.row = None
        now = clock.now()
        try:
            self.row = self.get_model_class().objects.get(
                session_key=self.session_key,
                expire_date__gt=now,
                last_seen_at__gt=now - settings.KEEPTRUSTS_SESSION_IDLE,
            )
        except SuspiciousOperation as error:
            log.warning(str(error))
        except self.get_model_class().DoesNotExist:
            pass
        if self.row is None:
            self._session_key = None
        return self.row

    def create_model_instance(self, data: dict[str, Any]) -> MemberSession:
        row = cast("MemberSession", super().create_model_instance(data))
        about = data.get(ABOUT) or {}
        row.member_id = about.get("member")
        row.method = about.get("method", "")
        row.device = about.get("device", "")
        row.address = about.get("address")
        row.signed_in_at = about.get("at")
        row.last_seen_at = clock.now()
        return row

    @classmethod
    def clear_expired(cls) -> None:
        """Delete the sessions that are over."""
        now = clock.now()
        over = Q(expire_date__lte=now) | Q(last_seen_at__lte=now - settings.KEEPTRUSTS_SESSION_IDLE)
        cls.get_model_class().objects.filter(over).delete()
