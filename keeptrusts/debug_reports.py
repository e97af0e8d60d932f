"""The report of an error that Django makes for developers (KEEPTRUSTS_DEBUG), and for mail to admins."""

from __future__ import annotations

from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter

from audit.redaction import strike_out


class RedactingReporter(ExceptionReporter):
    """Django's, with everything struck out that lets in: local variables, settings, what was posted."""

    def get_traceback_html(self) -> SafeString:
        # What was escaped stays escaped: nothing is put in but an ellipsis.
        return mark_safe(strike_out(super().get_traceback_html()))  # noqa: S308

    def get_traceback_text(self) -> SafeString:
        return mark_safe(strike_out(super().get_traceback_text()))  # noqa: S308
