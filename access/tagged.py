"""Views of what has a tag: `ETag` in every answer about one object, `If-None-Match` and `If-Match` as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Model
from rest_framework import status
from rest_framework.mixins import RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from access.preconditions import IF_MATCH, IF_NONE_MATCH, Precondition, is_known, parse_if_match
from access.viewsets import ApiViewSet


class TaggedViewSet[M: Model](RetrieveModelMixin, ApiViewSet[M]):
    """A viewset says with `tag_of` what stands for the state of one object."""

    def tag_of(self, obj: M) -> str:
        raise NotImplementedError(f"{type(self).__name__} has no tags")

    @property
    def expected(self) -> Precondition | None:
        """The state in which the caller knows what they change; None for any. Errors: ValidationError."""
        return parse_if_match(self.request.headers.get(IF_MATCH))

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show one, with the `ETag` that `If-Match` takes; 304 where `If-None-Match` names it (figures aside)."""
        obj = self.get_object()
        tag = self.tag_of(obj)
        if is_known(request.headers.get(IF_NONE_MATCH), tag):
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers={"ETag": f'"{tag}"'})
        return self.answer(obj)

    def answer(self, obj: M, status: int = status.HTTP_200_OK) -> Response:
        """Return the object as JSON, with its tag."""
        return self.tagged(Response(self.get_serializer(obj).data, status=status), obj)

    def tagged(self, response: Response, obj: M) -> Response:
        """Return the response with the tag of `obj`."""
        response["ETag"] = f'"{self.tag_of(obj)}"'
        return response

    def shown_with(self, obj: M, more: Mapping[str, Any]) -> dict[str, Any]:
        """Return the object as JSON, and what else this one answer says."""
        return {**self.get_serializer(obj).data, **more}
