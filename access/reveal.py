"""How the console shows a secret once: in the answer to the POST that made it, and nowhere else.

No redirect, session, message or cookie carries it; the answer may not be stored (design §3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from access.kept_filters import keep_list_filters


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that was just made, and what to do with it.

    title: what happened. name: whose value it is. usage: the template that says what to do with the value, given
    `secret` and `context`. done_url: where the member goes on. variable: what its line in an `.env` file is called, ""
    for what belongs in none. noun: what it is called. kept: what Keeptrusts keeps of it. now: what to do with it before
    anything else.
    """

    title: str
    name: str
    value: str = field(repr=False)
    usage: str
    done_url: str
    variable: str = "KEEPTRUSTS_KEY"
    noun: str = "value"
    kept: str = "Keeptrusts keeps a fingerprint of it and nothing that it could be shown from again."
    now: str = "Store it now."
    done_text: str = "Done, I have stored it"
    context: Mapping[str, Any] = field(default_factory=dict)


def reveal_page(request: HttpRequest, site: AdminSite, secret: Secret, **context: Any) -> HttpResponse:
    """Answer with the page that shows the secret."""
    page = {**site.each_context(request), "title": secret.title, "secret": secret, **context}
    return _never_stored(TemplateResponse(request, "console/secret.html", page))


def reveal_in_dialog(request: HttpRequest, secret: Secret) -> HttpResponse:
    """Answer a dialog with the secret in its place; the dialog then closes by its own button alone."""
    secret = replace(secret, done_url=keep_list_filters(request, secret.done_url))
    response = _never_stored(TemplateResponse(request, "console/secret_dialog.html", {"secret": secret}))
    response["HX-Retarget"] = response["HX-Reselect"] = "#dialog"
    response["HX-Reswap"] = "outerHTML"
    return response


def _never_stored(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    # An encoding of its own keeps GZipMiddleware from squeezing a secret next to what a caller chose (BREACH).
    response["Content-Encoding"] = "identity"
    return response
