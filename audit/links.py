"""Where the console shows exactly the entries about one object, or of one member."""

from __future__ import annotations

from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


def entries_about(object_type: str, object_id: object) -> str:
    """Return the address of the audit log narrowed to one object; object_type: as in `gateway_key`."""
    return _log(object_type=object_type, object_id=str(object_id))


def entries_link(object_type: str, object_id: object) -> SafeString:
    """Return a link to the entries about one object, for its page."""
    return format_html('<a class="kt-link" href="{}">All entries about it</a>', entries_about(object_type, object_id))


def entries_by(member_id: object) -> str:
    """Return the address of the audit log narrowed to what one member did."""
    return _log(actor=str(member_id))


def _log(**query: str) -> str:
    return f"{reverse('admin:audit_auditentry_changelist')}?{urlencode(query)}"
