from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from access.joining import join

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("join/", join, name="join"),
    path("admin/", admin.site.urls),
    path("api/", include("keeptrusts.api")),
]

handler400 = "keeptrusts.errors.bad_request"
handler403 = "keeptrusts.errors.permission_denied"
handler404 = "keeptrusts.errors.page_not_found"
handler500 = "keeptrusts.errors.server_error"
