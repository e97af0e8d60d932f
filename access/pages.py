"""Pages of the console that are no list and no object: a house registers its own, the site serves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache

from access.actors import caller
from access.refusals import Forbidden

type View = Callable[..., HttpResponse]


@dataclass(frozen=True, slots=True)
class Page:
    """One address below /admin/. name: what `reverse("admin:…")` calls it. for_strangers: before the sign-in."""

    route: str
    name: str
    view: View
    for_strangers: bool = False


PAGES: list[Page] = []


def console_page(route: str, *, name: str, permission: str | None = None) -> Callable[[View], View]:
    """Serve a view at /admin/<route> to members who may do `permission`; None = every member.

    Strangers are sent to sign in, and every POST needs its CSRF token. A module that registers pages is imported by
    its house's admin.py. Errors, for who may not: Forbidden, which the middleware records.
    """

    def register(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if permission is not None and not caller(request).may(permission):
                raise Forbidden(permission)
            return view(request, *args, **kwargs)

        PAGES.append(Page(route, name, guarded))
        return guarded

    return register


def open_page(route: str, *, name: str) -> Callable[[View], View]:
    """Serve a view at /admin/<route> to strangers too: what belongs to signing in. It is never cached."""

    def register(view: View) -> View:
        guarded: View = never_cache(view)
        PAGES.append(Page(route, name, guarded, for_strangers=True))
        return guarded

    return register


def page_context(request: HttpRequest, title: str, **context: Any) -> dict[str, Any]:
    """Return the context of a template that extends admin/base_site.html."""
    return {**admin.site.each_context(request), "title": title, **context}
