"""Sign-in through an OpenID Connect provider: the conversation with it, and whom it means by a member.

The conversation is Authlib's: authorization code with PKCE (S256), state and nonce, and an id token whose signature,
issuer, audience and times are checked (OpenID Connect Core 1.0 §3.1.3.7). Members are known by issuer and subject,
never by an e-mail address, which anybody may get who comes after.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.django_client import OAuth
from authlib.oauth2 import OAuth2Error
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponseRedirect
from joserfc.errors import JoseError

from access.members import about, edit_member, snapshot
from access.models import ExternalAccount, Member
from access.refusals import Conflict
from access.rules import Role
from access.sessions import delete_sessions
from access.sign_in_settings import Provider
from access.text import clean_text
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import record

log = logging.getLogger(__name__)

TIMEOUT_SECONDS: Final = 10
# Whoever is in groups of several roles has the first of these.
_RANKS: Final = (Role.ADMIN, Role.MANAGER, Role.AUDITOR)
_AWAY = (requests.RequestException, OSError)
_WRONG = (OAuthError, OAuth2Error, JoseError, ValueError, KeyError, TypeError, RuntimeError)


class SignInRefused(Exception):
    """The provider's word lets nobody in. code: for the audit log; title and words: for who reads the page."""

    def __init__(self, code: str, title: str, words: str) -> None:
        super().__init__(code)
        self.code = code
        self.title = title
        self.words = words


def ask(request: HttpRequest, provider: Provider, callback: str, **more: str) -> HttpResponseRedirect:
    """Lead the browser to the provider. more: further parameters. Errors: SignInRefused where it cannot be reached."""
    try:
        answer: HttpResponseRedirect = _client(provider).authorize_redirect(request, callback, **more)
    except _AWAY as error:
        raise _unreachable(provider) from error
    except _WRONG as error:
        raise _not_understood(provider) from error
    return answer


def claims_of(request: HttpRequest, provider: Provider) -> Mapping[str, Any]:
    """Return what the provider says of whom it has sent back. Errors: SignInRefused."""
    client = _client(provider)
    options = {
        "iss": {"essential": True, "values": [provider.issuer]},
        "sub": {"essential": True},
        "nonce": {"essential": True},
    }
    try:
        token = client.authorize_access_token(request, claims_options=options)
        claims: dict[str, Any] = dict(token["userinfo"])
        # Not all put the groups into the id token; the same person must be meant (OpenID Connect Core §5.3.2).
        if provider.role_claim not in claims and client.server_metadata.get("userinfo_endpoint"):
            more = client.userinfo(token=token)
            claims = {**more, **claims} if more.get("sub") == claims["sub"] else claims
    except _AWAY as error:
        raise _unreachable(provider) from error
    except _WRONG as error:
        raise _not_understood(provider) from error
    return claims


def member_of(claims: Mapping[str, Any], provider: Provider, *, ip: str | None) -> Member:
    """Return the member that these claims are of, in the role that their groups give, new if they were never here.

    Errors: SignInRefused for who is in no group that has a role, was taken out, or may not be added.
    """
    role = role_of(claims, provider)
    account = ExternalAccount.objects.select_related("member").filter(**_identity(claims, provider)).first()
    if role is None:
        if account is not None:
            _end_sessions(account.member, provider, ip)
        raise SignInRefused(
            "no_role",
            "You may not sign in here",
            f"{provider.name} knows you, and none of your groups has a role in this console. Ask an Admin, or whoever "
            "keeps the groups, to add you to one.",
        )
    if account is None:
        return _add(claims, provider, role, ip)
    if not account.member.is_active:
        raise SignInRefused(
            "taken_out", "You were taken out", "An Admin has taken you out of this console. Only they let you in again."
        )
    return _follow(account.member, role, provider, ip)


def role_of(claims: Mapping[str, Any], provider: Provider) -> Role | None:
    """Return the role that a person's groups give; the highest of several, None for none."""
    groups = claims.get(provider.role_claim)
    names = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    given = {provider.roles[name] for name in names if isinstance(name, str) and name in provider.roles}
    return next((role for role in _RANKS if role.value in given), None)


def _follow(member: Member, role: Role, provider: Provider, ip: str | None) -> Member:
    if member.role == role:
        return member
    try:
        return edit_member(actor=_actor(provider, ip), member_id=member.pk, changed={"role": role.value})
    except Conflict as conflict:
        raise SignInRefused(
            conflict.code,
            "No Admin would be left",
            f"{provider.name} makes you {role.label}, and you are the last active Admin here. Somebody else must be "
            "one first, or your groups at the provider must be as they were.",
        ) from conflict


def _add(claims: Mapping[str, Any], provider: Provider, role: Role, ip: str | None) -> Member:
    if not provider.allow_new:
        raise SignInRefused(
            "not_a_member",
            "You are no member here",
            "New members are not added by themselves. Ask an Admin to add you.",
        )
    actor, now = _actor(provider, ip), clock.now()
    for username in _usernames(claims, provider):
        member = Member(
            username=username,
            name=_text(claims.get("name"), 150),
            email=_text(claims.get("email"), 254),
            role=role.value,
            date_joined=now,
        )
        member.set_unusable_password()
        try:
            with transaction.atomic():
                member.full_clean()
                member.save(force_insert=True)
                ExternalAccount.objects.create(member=member, created_at=now, **_identity(claims, provider))
                detail = {"provider": provider.name, "issuer": provider.issuer}
                record(AuditAction.MEMBER_CREATED, actor, about(member), {}, snapshot(member), detail)
        except (ValidationError, IntegrityError):
            continue
        return member
    raise SignInRefused(
        "no_username", "You could not be added", "No username could be made of what the provider says. Tell an Admin."
    )


def _usernames(claims: Mapping[str, Any], provider: Provider) -> list[str]:
    """Return usernames to try: as the provider says it, and one that nobody else has."""
    wanted = re.sub(r"[^A-Za-z0-9@.+_-]", "-", _text(claims.get("preferred_username"), 100)).strip("-")
    own = hashlib.sha256(f"{provider.issuer}\0{claims['sub']}".encode()).hexdigest()[:10]
    return [name for name in (wanted, f"{wanted}-{own}" if wanted else f"member-{own}") if name]


def _end_sessions(member: Member, provider: Provider, ip: str | None) -> None:
    """End what a member who has lost their groups still has open."""
    with transaction.atomic():
        if ended := delete_sessions(member):
            record(AuditAction.SESSION_ENDED, _actor(provider, ip), about(member), detail={"sessions": ended})


def _text(value: Any, limit: int) -> str:
    """Return a claim as text that may be kept, or ""."""
    try:
        return clean_text(str(value or "")[:limit], field="claim", limit=limit)
    except ValidationError:
        return ""


def _identity(claims: Mapping[str, Any], provider: Provider) -> dict[str, str]:
    return {"issuer": provider.issuer[:500], "subject": str(claims["sub"])[:255]}


def _actor(provider: Provider, ip: str | None) -> Actor:
    system = Actor.system(f"sign-in through {provider.name}")
    return Actor(kind=system.kind, id=system.id, label=system.label, ip=ip)


def _unreachable(provider: Provider) -> SignInRefused:
    log.warning("The OpenID Connect provider %s cannot be reached.", provider.issuer, exc_info=True)
    return SignInRefused(
        "provider_unreachable",
        f"{provider.name} does not answer",
        "You can be signed in through it again when it does. A password or a passkey works meanwhile.",
    )


def _not_understood(provider: Provider) -> SignInRefused:
    log.warning("A sign-in through %s was refused.", provider.issuer, exc_info=True)
    return SignInRefused(
        "not_accepted",
        "That sign-in was not accepted",
        f"It was cancelled at {provider.name}, took too long, or was begun in another browser. Sign in again.",
    )


@lru_cache(maxsize=4)
def _client(provider: Provider) -> Any:
    """Return the client of a provider, which remembers what it has told of itself."""
    address = f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration"
    return OAuth().register(
        "keeptrusts",
        overwrite=True,
        client_id=provider.client_id,
        client_secret=provider.client_secret,
        server_metadata_url=address,
        client_kwargs={"scope": provider.scopes, "code_challenge_method": "S256", "timeout": TIMEOUT_SECONDS},
    )
