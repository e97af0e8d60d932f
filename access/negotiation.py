"""Which renderer answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class SensibleNegotiation(DefaultContentNegotiation):
    """Where there is one way to answer, it is taken whatever `Accept` says (RFC 9110 §12.5.1): no 406 for a CSV."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        ways = list(renderers)
        if len(ways) == 1:
            return ways[0], str(ways[0].media_type)
        return cast("tuple[BaseRenderer, str]", super().select_renderer(request, ways, format_suffix))
