"""A real OpenID Connect provider on loopback: oidc-provider-mock, which signs real tokens for whoever is asked for.

It does not look at PKCE (RFC 7636); what stands before it here does, as a provider of one's company would.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import oidc_provider_mock
import werkzeug.serving

from access.sign_in_settings import Provider

CLIENT_ID, CLIENT_SECRET = "keeptrusts", "a secret between the provider and us"


class _PkceGuard:
    """Refuses a code whose verifier does not fit the challenge that it was asked for with."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.challenges: dict[str, str] = {}
        self.asked: list[dict[str, list[str]]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        if environ["PATH_INFO"] == "/oauth2/token" and not self._fits(environ):
            start_response("400 Bad Request", [("Content-Type", "application/json")])
            return [b'{"error": "invalid_grant"}']

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            for code in parse_qs(urlsplit(dict(headers).get("Location", "")).query).get("code", []):
                self.asked.append(query)
                self.challenges[code] = query["code_challenge"][0] if query["code_challenge_method"] == ["S256"] else ""
            return start_response(status, headers, *rest)

        return self.app(environ, start)

    def _fits(self, environ: dict[str, Any]) -> bool:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        form = parse_qs(body.decode())
        verifier = hashlib.sha256(form.get("code_verifier", [""])[0].encode()).digest()
        return self.challenges.pop(form["code"][0], "") == base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()


class RunningProvider:
    """The provider, and what it knows. people: the claims of each subject."""

    def __init__(self, people: dict[str, dict[str, Any]]) -> None:
        users = [oidc_provider_mock.User(sub=sub, claims=claims) for sub, claims in people.items()]
        self.guard = _PkceGuard(oidc_provider_mock.app(user_claims=users, require_nonce=True))
        self.server = werkzeug.serving.make_server("localhost", 0, self.guard, threaded=True)
        self.issuer = f"http://localhost:{self.server.server_port}"

    def settings(self, **other: Any) -> Provider:
        """Return how a console is told of it."""
        given: dict[str, Any] = {
            "name": "Example SSO",
            "issuer": self.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "role_claim": "groups",
            "roles": {"platform": "admin", "developers": "manager", "audit": "auditor"},
            "scopes": "openid profile email",
            "allow_new": True,
            "trusts_second_factor": True,
        }
        return Provider(**{**given, **other})


@contextmanager
def running_provider(people: dict[str, dict[str, Any]]) -> Iterator[RunningProvider]:
    provider = RunningProvider(people)
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join()
