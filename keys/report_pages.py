"""The reports in the console: pages to read, to print and to sign. Their files come from the API."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from access.actors import caller, request_actor
from access.pages import console_page, page_context
from audit import clock
from keys.access_review import NAMED, access_review
from keys.breaches import BreachKind
from keys.models import ConsumerGroup
from keys.reports import ACCESS_REVIEW, ROTATION_COMPLIANCE, TITLES, Asked, asked, record_report
from keys.rotation_compliance import DAYS, rotation_compliance

PERMISSION = "keys.review_gatewaykey"


@console_page("reports/", name="reports", permission=PERMISSION)
@require_safe
def reports_page(request: HttpRequest) -> HttpResponse:
    """Offer the reports, each with what it can be narrowed by."""
    groups = caller(request).visible(ConsumerGroup.objects.all()).order_by("name")
    context = page_context(request, "Reports", groups=groups, days=DAYS)
    return TemplateResponse(request, "keys/reports.html", context)


@console_page("reports/access-review/", name="access_review", permission=PERMISSION)
@require_safe
def access_review_page(request: HttpRequest) -> HttpResponse:
    """Show the access review; that it was produced is in the audit log."""
    try:
        wanted = asked(caller(request), request.GET, ACCESS_REVIEW)
    except ValidationError as error:
        return _back(request, error)
    report = access_review(caller(request), clock.now(), wanted.group)
    for key in report.keys:
        key["breaks"] = ", ".join(BreachKind(kind).label for kind in key["policy_breaches"].split())
    broken = [(BreachKind(kind).label, count) for kind, count in report.breaches.items() if count]
    return _page(request, ACCESS_REVIEW, wanted, report, report.totals["keys"], broken=broken)


@console_page("reports/rotation-compliance/", name="rotation_compliance", permission=PERMISSION)
@require_safe
def rotation_compliance_page(request: HttpRequest) -> HttpResponse:
    """Show the rotation compliance report; that it was produced is in the audit log."""
    try:
        wanted = asked(caller(request), request.GET, ROTATION_COMPLIANCE)
    except ValidationError as error:
        return _back(request, error)
    report = rotation_compliance(caller(request), clock.now(), wanted.days, wanted.group)
    return _page(request, ROTATION_COMPLIANCE, wanted, report, report.total)


def _page(request: HttpRequest, slug: str, wanted: Asked, report: Any, rows: int, **more: Any) -> HttpResponse:
    query = wanted.query(slug)
    record_report(request_actor(request), slug, query, rows=rows, form="page")
    context = page_context(
        request,
        TITLES[slug],
        report=report,
        installation=settings.PUBLIC_URL,
        member=caller(request),
        named=NAMED,
        **more,
        csv_link=_file(f"{slug}-export", query),
        team_link=_file("access-review-team-export", {}),
    )
    response = TemplateResponse(request, f"keys/{slug.replace('-', '_')}.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _file(name: str, query: dict[str, str]) -> str:
    return reverse(name) + (f"?{urlencode(query)}" if query else "")


def _back(request: HttpRequest, error: ValidationError) -> HttpResponse:
    for field, words in error.message_dict.items():
        messages.error(request, f"{field}: {' '.join(words)}")
    return HttpResponseRedirect(reverse("admin:reports"))
