"""The rotation of a key as it is now: what the key's page asks for every few seconds."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from access.dialogs import find_visible
from access.pages import console_page
from keys.models import GatewayKey
from usage.cutover import cutover

ADDRESS: Final = "keys/gatewaykey/<uuid:key_id>/cutover/"


@console_page(ADDRESS, name="keys_gatewaykey_cutover", permission="keys.view_gatewaykey")
def cutover_page(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """Answer with that part of the key's page alone."""
    response = render(request, "usage/cutover.html", cutover(find_visible(request, GatewayKey, key_id)))
    response["Cache-Control"] = "no-store"
    return response
