"""A list keeps its filters: on the way to a page and back, and through a dialog."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

from django.http import HttpRequest
from django.urls import Resolver404, resolve

KEPT = "_changelist_filters"


def keep_list_filters(request: HttpRequest, url: str) -> str:
    """Return `url`, a page of the console, such that it leads back to the list as it is filtered now.

    Where the member is, htmx says (HX-Current-URL) or the link that was followed (Referer, which stays on this host);
    only the console's own pages about the same model count.
    """
    here = urlsplit(request.headers.get("HX-Current-URL") or request.headers.get("Referer") or "")
    place = urlsplit(url)
    if KEPT in parse_qs(place.query) or here.netloc != request.get_host():
        return url
    model, about = _model_of(place.path), _model_of(here.path)
    if not model or model != about:
        return url
    filters = here.query if _is_list(here.path) else parse_qs(here.query).get(KEPT, [""])[0]
    if not filters:
        return url
    return place._replace(query="&".join(filter(None, (place.query, urlencode({KEPT: filters}))))).geturl()


def _model_of(path: str) -> str:
    return "_".join(_name_of(path).split("_")[:2])


def _is_list(path: str) -> bool:
    return _name_of(path).endswith("_changelist")


def _name_of(path: str) -> str:
    """Return what the address at `path` is called; "" for one that is none of the console's."""
    try:
        found = resolve(path)
    except Resolver404:
        return ""
    return found.url_name or "" if found.app_names == ["admin"] else ""
