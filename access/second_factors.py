"""The one writer of second factors: authenticator apps (TOTP, RFC 6238), passkeys (WebAuthn) and recovery codes.

django-allauth keeps them (its model Authenticator) and speaks WebAuthn. What is ours: that each change is one
transaction with its audit entry, that a code is accepted once in the whole installation, and that of recovery codes
only the SHA-256 is stored.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from allauth.mfa.utils import decrypt
from allauth.mfa.webauthn.internal import auth as webauthn
from cryptography.exceptions import InvalidSignature
from cryptography.fernet import InvalidToken
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from access.members import about
from access.models import Member
from access.refusals import Conflict, Forbidden
from access.rules import require
from access.sessions import delete_sessions
from access.text import clean_text
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import record

TYPE = Authenticator.Type
# Factors by themselves; recovery codes only stand in for one of them.
FACTORS: Final = (TYPE.TOTP, TYPE.WEBAUTHN)
PERIOD: Final = 30
# Codes of the period before and after are accepted: a phone's clock is not ours.
TOLERANCE: Final = 1
CODES: Final = 10
# Without what is easily taken for something else. 16 of them: 79 bits, so that a plain digest is enough.
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_CODE_LENGTH: Final = 16
MOST_PASSKEYS: Final = 10
# What a browser, or somebody in its place, may send that is no answer of an authenticator.
_NO_ANSWER = (ValidationError, InvalidSignature, ValueError, TypeError, KeyError, AttributeError, IndexError)

totp_secret = generate_totp_secret


class Factor(NamedTuple):
    """A second factor as its owner is shown it."""

    id: int
    name: str
    is_passkey: bool
    added_at: datetime
    last_used_at: datetime | None


def factors_of(member: Member) -> list[Factor]:
    """Return a member's second factors, the oldest first."""
    return [
        Factor(row.pk, _name(row), row.type == TYPE.WEBAUTHN, row.created_at, row.last_used_at)
        for row in Authenticator.objects.filter(user=member, type__in=FACTORS).order_by("pk")
    ]


def has_second_factor(member: Member) -> bool:
    return bool(Authenticator.objects.filter(user=member, type__in=FACTORS).exists())


def needs_second_factor(member: Member) -> bool:
    """Say whether their role may not do without one (KEEPTRUSTS_REQUIRE_MFA)."""
    return member.role in settings.KEEPTRUSTS_REQUIRE_MFA


def recovery_codes_left(member: Member) -> int | None:
    """Return how many recovery codes are unused; None where none were made."""
    row = Authenticator.objects.filter(user=member, type=TYPE.RECOVERY_CODES).first()
    return None if row is None else len(row.data["digests"])


# --- changing them ----------------------------------------------------------------------------------------------------


def add_totp(*, actor: Actor, member_id: int, secret: str, code: str) -> None:
    """Let the authenticator app that holds `secret` be a second factor; it replaces none.

    Errors: Forbidden; Conflict `authenticator_exists`; ValidationError at `code` where the app shows another one.
    """
    with transaction.atomic():
        member = _own(actor, member_id)
        if Authenticator.objects.filter(user=member, type=TYPE.TOTP).exists():
            raise Conflict("authenticator_exists", "There is an authenticator app already. Remove it first.")
        counter = _counter_of(secret, code)
        if counter is None:
            message = "This is not the code that the app should show now. Is the time of the phone right?"
            raise ValidationError({"code": ValidationError(message, code="wrong_code")})
        added = TOTP.activate(member, secret).instance
        added.data["counter"] = counter
        _touch(added)
        _record(AuditAction.MEMBER_SECOND_FACTOR_ADDED, actor, member, added)


def add_passkey(*, actor: Actor, member_id: int, name: str, answer: Any) -> None:
    """Let the passkey that the browser has made be a second factor, and a way to sign in by itself.

    answer: what `navigator.credentials.create` gave, for the challenge that this request's session holds.
    Errors: Forbidden; Conflict `too_many_passkeys`; ValidationError.
    """
    name = clean_text(name, field="name", limit=60, required=True)
    try:
        webauthn.complete_registration(webauthn.parse_registration_response(answer))
    except _NO_ANSWER as error:
        message = "The passkey was not added: what the browser sent does not fit. Try again."
        raise ValidationError({"answer": ValidationError(message, code="wrong_answer")}) from error
    with transaction.atomic():
        member = _own(actor, member_id)
        if Authenticator.objects.filter(user=member, type=TYPE.WEBAUTHN).count() >= MOST_PASSKEYS:
            raise Conflict("too_many_passkeys", f"{MOST_PASSKEYS} passkeys are enough. Remove one first.")
        added = webauthn.WebAuthn.add(member, name, answer).instance
        _record(AuditAction.MEMBER_SECOND_FACTOR_ADDED, actor, member, added)


def remove_factor(*, actor: Actor, member_id: int, factor_id: int) -> str:
    """Let a second factor of a member, who is the actor, be none any more; return its name.

    With the last one, the recovery codes go too. Errors: Forbidden; Authenticator.DoesNotExist; Conflict
    `second_factor_needed` where it is the last one, and their role may not do without.
    """
    with transaction.atomic():
        member = _own(actor, member_id)
        factors = list(Authenticator.objects.select_for_update().filter(user=member, type__in=FACTORS))
        removed = next((factor for factor in factors if factor.pk == factor_id), None)
        if removed is None:
            raise Authenticator.DoesNotExist
        if len(factors) == 1 and needs_second_factor(member):
            raise Conflict("second_factor_needed", "Your role needs a second factor. Add another one before.")
        name = _name(removed)
        _record(AuditAction.MEMBER_SECOND_FACTOR_REMOVED, actor, member, removed)
        removed.delete()
        if len(factors) == 1:
            Authenticator.objects.filter(user=member, type=TYPE.RECOVERY_CODES).delete()
    return name


def make_recovery_codes(*, actor: Actor, member_id: int) -> list[str]:
    """Give a member, who is the actor, new recovery codes and return them; older ones are void.

    Errors: Forbidden; Conflict `no_second_factor` where there is nothing that they could stand in for.
    """
    codes = [_new_code() for _ in range(CODES)]
    with transaction.atomic():
        member = _own(actor, member_id)
        if not has_second_factor(member):
            raise Conflict("no_second_factor", "Add an authenticator app or a passkey first.")
        data = {"digests": [_digest(code) for code in codes]}
        Authenticator.objects.filter(user=member, type=TYPE.RECOVERY_CODES).delete()
        Authenticator.objects.create(user=member, type=TYPE.RECOVERY_CODES, data=data, created_at=clock.now())
        record(AuditAction.MEMBER_RECOVERY_CODES_MADE, actor, about(member), detail={"codes": len(codes)})
    return codes


def reset_second_factors(*, actor: Actor, member_id: int) -> int:
    """Take every second factor and recovery code from a member who has lost them, and end their sessions.

    Returns how many factors there were. Errors: Forbidden, for anybody but Admins and the system.
    """
    with transaction.atomic():
        member: Member = Member.objects.select_for_update(no_key=True).get(pk=member_id)
        require(actor, "access.change_member", member)
        rows = list(Authenticator.objects.select_for_update().filter(user=member))
        names = [_name(row) for row in rows if row.type in FACTORS]
        if rows:
            Authenticator.objects.filter(pk__in=[row.pk for row in rows]).delete()
            detail = {"sessions_ended": delete_sessions(member)}
            record(AuditAction.MEMBER_SECOND_FACTORS_RESET, actor, about(member), {"second_factors": names}, {}, detail)
    return len(names)


# --- using them -------------------------------------------------------------------------------------------------------


def use_code(*, actor: Actor, member: Member, code: str) -> str | None:
    """Accept a code of the authenticator app, or a recovery code; return which it was, or None for neither.

    Either is accepted once: a code of the app and those before it (RFC 6238 §5.2), and a recovery code for good.
    """
    typed = re.sub(r"[\s-]", "", code).lower()
    with transaction.atomic():
        # Locked, so that of two who show the same code at the same moment one is refused.
        rows = {row.type: row for row in Authenticator.objects.select_for_update().filter(user=member)}
        if (app := rows.get(TYPE.TOTP)) and _use_totp(app, typed):
            return "totp"
        if (codes := rows.get(TYPE.RECOVERY_CODES)) and _use_recovery_code(codes, typed):
            left = len(codes.data["digests"])
            record(AuditAction.MEMBER_RECOVERY_CODE_USED, actor, about(member), detail={"codes_left": left})
            return "recovery code"
    return None


def use_passkey(*, member: Member, answer: Any) -> str | None:
    """Accept what `navigator.credentials.get` gave for the challenge of this request's session; None if it is wrong."""
    try:
        used = webauthn.complete_authentication(member, webauthn.parse_authentication_response(answer))
    except _NO_ANSWER:
        return None
    _touch(used)
    return "passkey"


def owner_of(answer: Any) -> Member | None:
    """Return the member whose passkey a browser claims to have used. Nothing is proven by it yet."""
    try:
        found: Member = webauthn.extract_user_from_response(answer)
    except _NO_ANSWER:
        return None
    return found


def _use_totp(app: Authenticator, typed: str) -> bool:
    try:
        counter = _counter_of(decrypt(app.data["secret"]), typed)
    except InvalidToken:
        # Another KEEPTRUSTS_SECRET_KEY: nothing can be checked against this secret any more.
        return False
    if counter is None or counter <= app.data.get("counter", 0):
        return False
    app.data["counter"] = counter
    _touch(app)
    return True


def _use_recovery_code(codes: Authenticator, typed: str) -> bool:
    digest = _digest(typed)
    kept = [known for known in codes.data["digests"] if not hmac.compare_digest(known, digest)]
    if len(kept) == len(codes.data["digests"]):
        return False
    codes.data["digests"] = kept
    _touch(codes)
    return True


def _counter_of(secret: str, typed: str) -> int | None:
    """Return the period (RFC 6238: T) in which the app shows this code; None if it is not about now."""
    now = int(clock.now().timestamp()) // PERIOD
    periods: Sequence[int] = range(now - TOLERANCE, now + TOLERANCE + 1)
    typed = re.sub(r"\s", "", typed)
    fitting = [
        period
        for period in periods
        if hmac.compare_digest(format_hotp_value(hotp_value(secret, period)).encode(), typed.encode())
    ]
    return fitting[-1] if fitting else None


def _new_code() -> str:
    letters = "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH))
    return "-".join(letters[start : start + 4] for start in range(0, _CODE_LENGTH, 4))


def _digest(code: str) -> str:
    return sha256(code.replace("-", "").encode()).hexdigest()


def _own(actor: Actor, member_id: int) -> Member:
    member: Member = Member.objects.select_for_update(no_key=True).get(pk=member_id)
    if actor.id != str(member.pk):
        raise Forbidden("access.change_member", member)
    return member


def _touch(row: Authenticator) -> None:
    row.last_used_at = clock.now()
    row.save(update_fields=["data", "last_used_at"])


def _name(row: Authenticator) -> str:
    return str(row.data.get("name", "passkey")) if row.type == TYPE.WEBAUTHN else "authenticator app"


def _record(action: AuditAction, actor: Actor, member: Member, row: Authenticator) -> None:
    kind = "passkey" if row.type == TYPE.WEBAUTHN else "totp"
    record(action, actor, about(member), detail={"kind": kind, "name": _name(row)})
