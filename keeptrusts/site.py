"""The console itself: Django's admin site, with the names, pages and doors that are ours."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.views import PasswordChangeView
from django.core.paginator import InvalidPage
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from unfold.forms import AdminOwnPasswordChangeForm
from unfold.sites import UnfoldAdminSite

from access.actors import request_actor
from access.members import set_password
from access.models import Member
from access.pages import PAGES
from access.sign_in_pages import sign_in


class ConsoleSite(UnfoldAdminSite):
    """The one admin site. Every member may open it; what they find there, their role decides."""

    site_title = "Keeptrusts"
    site_header = "Keeptrusts"
    index_title = "Dashboard"

    def get_urls(self) -> list[URLResolver | URLPattern]:
        """Add the pages of the houses (access/pages.py), and leave out what no screen uses.

        That is "view on site", which fails on the id of a UUID model, and "autocomplete".
        """
        pages = [
            path(page.route, page.view if page.for_strangers else self.admin_view(page.view), name=page.name)
            for page in PAGES
        ]
        unused = {"view_on_site", "autocomplete"}
        return pages + [pattern for pattern in super().get_urls() if getattr(pattern, "name", "") not in unused]

    @method_decorator([never_cache, transaction.atomic])
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Let somebody in: by a password, a passkey, or what else is set up (access/sign_in_pages.py).

        With its entry in the audit log, or not at all.
        """
        if request.method == "GET" and self.has_permission(request):
            return HttpResponseRedirect(reverse(f"{self.name}:index"))
        request.current_app = self.name
        return sign_in(request, {**self.each_context(request), **(extra_context or {})})

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show the screens of one part of the sidebar, which may hold the models of several apps."""
        apps = self.get_app_list(request)
        name = next((app["name"] for app in apps if app["app_label"] == app_label), None)
        if name is None:
            raise Http404
        request.current_app = self.name
        part = [app for app in apps if app["name"] == name]
        merged = {**part[0], "models": [model for app in part for model in app["models"]]}
        context = {
            **self.each_context(request),
            "title": name,
            "subtitle": None,
            "app_list": [merged],
            "app_label": app_label,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/app_index.html", context)

    # Any: the stubs know of no redirect here.
    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Let the member change their own password, whatever their role."""
        request.current_app = self.name
        view = OwnPasswordView.as_view(
            success_url=reverse(f"{self.name}:password_change_done"),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Answer the command palette (Ctrl+K). unfold takes the page number as it comes; a wrong one is no error."""
        try:
            return super().search(request, extra_context)
        except (ValueError, InvalidPage):
            return HttpResponse()


class OwnPasswordView(PasswordChangeView):
    """Changes the password through the one writer of members, so that the audit log knows."""

    form_class = AdminOwnPasswordChangeForm

    def form_valid(self, form: Any) -> HttpResponse:
        member = cast("Member", self.request.user)
        changed = set_password(
            actor=request_actor(self.request),
            member_id=member.pk,
            password=form.cleaned_data["new_password1"],
            keep_session=self.request.session.session_key,
        )
        # Every other session of theirs ends; this one goes on.
        update_session_auth_hash(self.request, changed)
        return HttpResponseRedirect(self.get_success_url())
