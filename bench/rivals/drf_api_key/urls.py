"""One view that answers who has a key, with nothing."""

from __future__ import annotations

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_api_key.permissions import HasAPIKey


class Authorize(APIView):
    permission_classes = [HasAPIKey]

    def get(self, request: Request) -> Response:
        return Response()


urlpatterns = [path("authorize", Authorize.as_view())]
