"""What every answer of console and API carries, and which of them may be compressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.gzip import GZipMiddleware

from keeptrusts.errors import method_not_allowed

# Everything that a page could ask the browser for, but what a console needs: to copy a value, and passkeys.
_REFUSED: Final = (
    *("accelerometer", "autoplay", "browsing-topics", "camera", "clipboard-read", "display-capture"),
    *("encrypted-media", "fullscreen", "geolocation", "gyroscope", "hid", "idle-detection", "local-fonts"),
    *("magnetometer", "microphone", "midi", "payment", "picture-in-picture", "screen-wake-lock", "serial"),
    *("storage-access", "usb", "window-management", "xr-spatial-tracking"),
)
_ALLOWED: Final = ("clipboard-write", "publickey-credentials-create", "publickey-credentials-get")
PERMISSIONS_POLICY: Final = ", ".join(
    [f"{name}=()" for name in _REFUSED] + [f"{name}=(self)" for name in _ALLOWED],
)


class SurfaceMiddleware:
    """Adds the headers that Django has no setting for, and a page to what is refused for its method."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code == 405 and isinstance(response, HttpResponse) and not response.content:
            response = method_not_allowed(request, response.get("Allow", ""))
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        return response


class CompressionMiddleware(GZipMiddleware):
    """Compresses only where nobody can learn a secret from a length (BREACH).

    That takes a secret in the answer, text beside it that an attacker chooses, and many requests that the attacker
    has the victim's browser make. So what answers a change is sent as it is, for that is where a value is shown; a page
    that shows a secret to a GET says `Content-Encoding: identity`; and whatever another site has led to is sent as it
    is, too. In what is left the one secret is the CSRF token, which Django masks anew each time.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        from_elsewhere = request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}
        if request.method not in {"GET", "HEAD"} or from_elsewhere:
            return response
        return super().process_response(request, response)
