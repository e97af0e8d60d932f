"""What every answer carries, what is compressed, and what is refused at the door."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from typing import Any, Final

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from rest_framework.test import APIClient

from access.models import Member
from gateways import bodies
from keeptrusts import door
from keeptrusts.middleware import PERMISSIONS_POLICY, CompressionMiddleware, SurfaceMiddleware
from tests.factories import make_gateway, make_key
from tests.fixtures import BrowserOf
from tests.forms import filled
from tests.pages import SENT
from tests.plane import INTROSPECT, USAGE, running_plane

GZIP: Final = {"Accept-Encoding": "gzip"}


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/api/v1/me/", "/api/docs/", "/no/such/", "/"])
def test_every_answer_has_the_headers_that_browsers_heed(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Permissions-Policy"] == PERMISSIONS_POLICY
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.once
def test_a_page_may_copy_and_use_passkeys_and_nothing_else_of_the_device() -> None:
    given = dict(part.split("=") for part in PERMISSIONS_POLICY.split(", "))
    assert {name for name, who in given.items() if who == "(self)"} == {
        *("clipboard-write", "publickey-credentials-create", "publickey-credentials-get"),
    }
    assert {given[name] for name in ("camera", "microphone", "geolocation", "payment", "usb")} == {"()"}


@pytest.mark.django_db
def test_a_method_that_there_is_not_gets_a_page_and_the_api_its_json(
    browser: BrowserOf, admin: Member, admin_api: APIClient
) -> None:
    page, answer = browser(admin).get("/admin/logout/"), admin_api.delete("/api/v1/me/")
    assert (page.status_code, answer.status_code) == (405, 405)
    assert page.headers["Allow"] == "POST, OPTIONS"
    assert b"used in another way" in page.content
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.django_db
def test_pages_behind_the_sign_in_are_kept_by_no_cache(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    for path in (
        "/admin/",
        "/admin/keys/gatewaykey/",
        "/admin/preferences/",
        f"/admin/keys/gatewaykey/{make_key().key.pk}/",
    ):
        assert "no-store" in client.get(path, follow=True).headers["Cache-Control"], path
    client.post("/admin/logout/")
    assert client.get("/admin/").status_code == 302


@pytest.mark.once
def test_passwords_are_hashed_with_argon2() -> None:
    import keeptrusts.settings as real

    assert real.PASSWORD_HASHERS == ["django.contrib.auth.hashers.Argon2PasswordHasher"]


# --- compression ------------------------------------------------------------------------------------------------------


def encoding(answer: Any) -> str:
    return str(answer.headers.get("Content-Encoding", "identity"))


@pytest.mark.django_db
def test_no_answer_that_shows_a_secret_is_compressed(
    browser: BrowserOf, admin: Member, admin_api: APIClient, settings: Any
) -> None:
    key, gateway = make_key().key, make_gateway().gateway
    made: list[Any] = [
        admin_api.post("/api/v1/gateway-keys/", {"name": "a", "description": "a" * 2_000}, headers=GZIP),
        admin_api.post(f"/api/v1/gateway-keys/{key.pk}/rotate/", {}, headers=GZIP),
        admin_api.post("/api/v1/gateways/", {"name": "g"}, headers=GZIP),
        admin_api.post(f"/api/v1/gateways/{gateway.pk}/rotate-token/", {}, headers=GZIP),
        admin_api.post("/api/v1/access-keys/", {"name": "x"}, headers=GZIP),
    ]
    client = browser(admin)
    for path, given in (
        (f"/admin/keys/gatewaykey/{key.pk}/rotate/", {}),
        ("/admin/keys/gatewaykey/add/", {"name": "b"}),
        ("/admin/gateways/gateway/add/", {"name": "h"}),
        ("/admin/access/accesskey/add/", {"name": "y"}),
    ):
        made.append(client.post(path, filled(client.get(path), **{**SENT, **given}), headers=GZIP))
    for answer in made:
        assert b"kt_" in answer.content
        assert encoding(answer) == "identity"
        assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.django_db
def test_pages_are_compressed_for_their_own_site_alone(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    for site, expected in (
        ("same-origin", "gzip"),
        ("none", "gzip"),
        ("cross-site", "identity"),
        ("same-site", "identity"),
    ):
        answer = client.get("/admin/", headers={**GZIP, "Sec-Fetch-Site": site})
        assert (site, encoding(answer)) == (site, expected)
    page = client.get("/admin/", headers=GZIP)
    assert b"Keeptrusts" in gzip.decompress(page.content)


@pytest.mark.once
@pytest.mark.parametrize(
    ("method", "said", "expected"),
    [("GET", {}, "gzip"), ("GET", {"Content-Encoding": "identity"}, "identity"), ("POST", {}, "identity")],
)
def test_what_answers_a_change_or_says_so_is_sent_as_it_is(method: str, said: dict[str, str], expected: str) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(b"x" * 1_000, headers=said)

    request = RequestFactory().generic(method, "/", headers=GZIP)
    assert encoding(CompressionMiddleware(view)(request)) == expected


@pytest.mark.once
def test_a_policy_that_a_view_sets_for_itself_stands() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"Permissions-Policy": "camera=(self)"})

    assert SurfaceMiddleware(view)(RequestFactory().get("/")).headers["Permissions-Policy"] == "camera=(self)"


# --- limits -----------------------------------------------------------------------------------------------------------


async def asked(path: str, *parts: bytes, ends: bool = True, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return what the door answers to a body in these parts; where it does not end, nothing more ever comes."""
    left = list(parts)

    async def receive() -> Mapping[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or not ends}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sent: list[Mapping[str, Any]] = []

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": told}
    await door.Door(application)(scope, receive, send)
    start, body = sent
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"]


@pytest.mark.once
def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    half = b"x" * 524_288
    assert asyncio.run(asked("/api/", half, half))[0] == 200
    status, headers, body = asyncio.run(asked("/api/", half, half, b"x"))
    assert (status, headers["content-type"], headers["cache-control"]) == (413, "application/json", "no-store")
    assert b"body_too_large" in body


@pytest.mark.once
@pytest.mark.parametrize(("path", "words"), [("/api/v1/", b'"code": "body_too_slow"'), ("/admin/", b"<h1>")])
def test_a_body_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, path: str, words: bytes) -> None:
    monkeypatch.setattr(door, "BODY_SECONDS", 0.05)
    status, headers, body = asyncio.run(asked(path, b"x", ends=False))
    assert (status, len(headers["x-request-id"])) == (408, 32)
    assert words in body


@pytest.mark.once
def test_a_request_id_is_believed_of_a_proxy_of_ours_alone() -> None:
    given: dict[str, Any] = {"x_request_id": "given-by-somebody"}
    assert asyncio.run(asked("/", b"", **given))[1]["x-request-id"] != "given-by-somebody"
    with override_settings(TRUSTED_PROXIES=1):
        assert asyncio.run(asked("/", b"", **given))[1]["x-request-id"] == "given-by-somebody"


@pytest.mark.once
def test_a_gateway_that_sends_no_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)

    async def receive() -> Mapping[str, Any]:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(bodies.BodyTooSlow):
        asyncio.run(bodies.read_body({"headers": []}, receive, limit=10))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("path", "code"), [(USAGE, "body_too_slow"), (INTROSPECT, "invalid_request")])
def test_a_gateway_that_is_too_slow_is_told_so(monkeypatch: pytest.MonkeyPatch, path: str, code: str) -> None:
    token = make_gateway(usage_source="report").value

    async def too_slow(*_: Any, **__: Any) -> bytes:
        raise bodies.BodyTooSlow

    for house in ("reporting", "introspection"):
        monkeypatch.setattr(f"gateways.{house}.read_body", too_slow)
    with running_plane() as plane:
        answer = plane.ask("POST", path, headers=[(b"x-keeptrusts-gateway-token", token.encode())])
    assert answer.status == 408
    assert code in (answer.json.get("code"), answer.json.get("error"))
