"""What can be configured of signing in, read from the environment by the settings (docs/sign-in.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from environs import FileAwareEnv

ROLES: Final = ("admin", "manager", "auditor")
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Provider:
    """An OpenID Connect provider that members may sign in with.

    role_claim: the claim that lists a person's groups. roles: the role that each group gives. allow_new: whether who
    was never here becomes a member. trusts_second_factor: whether the provider has asked for the second factor.
    """

    name: str
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    role_claim: str
    roles: Mapping[str, str] = field(hash=False)
    scopes: str
    allow_new: bool
    trusts_second_factor: bool


@dataclass(frozen=True, slots=True)
class SignInSettings:
    """require_mfa: roles that need a second factor. confirmed_for: how long a proof of who one is counts."""

    require_mfa: frozenset[str]
    lifetime: timedelta
    idle: timedelta
    confirmed_for: timedelta
    provider: Provider | None


def read(env: FileAwareEnv, *, embedded: bool) -> SignInSettings:
    """Return what the environment says of signing in. Errors: ImproperlyConfigured, with what is wrong and where."""
    return SignInSettings(
        require_mfa=_roles(env.str("KEEPTRUSTS_REQUIRE_MFA", "none" if embedded else "admin")),
        lifetime=timedelta(hours=_positive(env, "KEEPTRUSTS_SESSION_HOURS", 12)),
        idle=timedelta(minutes=_positive(env, "KEEPTRUSTS_SESSION_IDLE_MINUTES", 60)),
        confirmed_for=timedelta(minutes=_positive(env, "KEEPTRUSTS_CONFIRM_MINUTES", 5)),
        provider=_provider(env),
    )


def _roles(text: str) -> frozenset[str]:
    roles = frozenset(role.strip() for role in text.split(",") if role.strip())
    if roles == {"none"}:
        return frozenset()
    if unknown := roles - set(ROLES):
        raise ImproperlyConfigured(
            f"KEEPTRUSTS_REQUIRE_MFA names {', '.join(sorted(unknown))}; it is a list of {', '.join(ROLES)}, or none."
        )
    return roles


def _positive(env: FileAwareEnv, name: str, default: int) -> int:
    value = env.int(name, default)
    if value < 1:
        raise ImproperlyConfigured(f"{name} is {value}, and must be at least 1.")
    return value


def _provider(env: FileAwareEnv) -> Provider | None:
    issuer = env.str("KEEPTRUSTS_OIDC_ISSUER", "")
    if not issuer:
        return None
    address = urlsplit(issuer)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in LOOPBACK):
        raise ImproperlyConfigured(f"KEEPTRUSTS_OIDC_ISSUER must be an https address, not {issuer!r}.")
    needed = {name: env.str(name, "") for name in ("KEEPTRUSTS_OIDC_CLIENT_ID", "KEEPTRUSTS_OIDC_CLIENT_SECRET")}
    if missing := [name for name, value in needed.items() if not value]:
        raise ImproperlyConfigured(f"KEEPTRUSTS_OIDC_ISSUER is set, and {' and '.join(missing)} is not.")
    return Provider(
        name=env.str("KEEPTRUSTS_OIDC_NAME", "") or address.hostname or "",
        issuer=issuer,
        client_id=needed["KEEPTRUSTS_OIDC_CLIENT_ID"],
        client_secret=needed["KEEPTRUSTS_OIDC_CLIENT_SECRET"],
        role_claim=env.str("KEEPTRUSTS_OIDC_ROLE_CLAIM", "groups"),
        roles=_role_map(env.str("KEEPTRUSTS_OIDC_ROLE_MAP", "")),
        scopes=env.str("KEEPTRUSTS_OIDC_SCOPES", "openid profile email"),
        allow_new=env.bool("KEEPTRUSTS_OIDC_ALLOW_NEW", True),
        trusts_second_factor=env.bool("KEEPTRUSTS_OIDC_TRUSTS_MFA", True),
    )


def _role_map(text: str) -> dict[str, str]:
    """Return the role of each group in "group=role,group=role"."""
    roles: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        group, _, role = (side.strip() for side in pair.rpartition("="))
        if not group or role not in ROLES:
            raise ImproperlyConfigured(
                f"KEEPTRUSTS_OIDC_ROLE_MAP has {pair!r}; each part is group=role, the role one of {', '.join(ROLES)}."
            )
        roles[group] = role
    if not roles:
        raise ImproperlyConfigured(
            "KEEPTRUSTS_OIDC_ROLE_MAP is not set: without it nobody could sign in. For example: "
            "platform=admin,developers=manager,audit=auditor"
        )
    return roles
