"""Sign-in through OpenID Connect, against a provider that runs on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from environs import FileAwareEnv

from access import members, oidc, sign_in_settings
from access.models import ExternalAccount, Member, MemberSession
from audit.models import AuditEntry
from tests.access.signing_in import give_totp
from tests.factories import actor_of, make_member
from tests.fixtures import BrowserOf
from tests.oidc_provider import RunningProvider, running_provider
from tests.pages import SENT, text_of

pytestmark = pytest.mark.django_db
BEGIN = "/admin/login/oidc/"

PEOPLE: dict[str, dict[str, Any]] = {
    "ada": {"preferred_username": "ada.oidc", "name": "Ada Oidc", "email": "ada@example.com", "groups": ["platform"]},
    "max": {"preferred_username": "max.oidc", "groups": ["audit", "developers", "football"]},
    "amy": {"preferred_username": "amy öidc", "groups": "audit"},
    "sam": {"preferred_username": "sam", "groups": ["football", 7, None]},
    "tom": {"groups": ["developers"]},
}


@pytest.fixture
def provider(settings: Any) -> Iterator[RunningProvider]:
    with running_provider(PEOPLE) as provider:
        settings.KEEPTRUSTS_OIDC = provider.settings()
        yield provider


def go(client: Client, subject: str, *, next_url: str = "") -> Any:
    """Sign in as a person would who clicks, and says at the provider who they are; return the last answer."""
    began = client.get(BEGIN + (f"?next={next_url}" if next_url else ""))
    assert began.status_code == 302, text_of(began)
    return client.get(back_from(began.headers["Location"], subject))


def back_from(address: str, subject: str) -> str:
    answer = httpx.post(address, data={"sub": subject})
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"].removeprefix("http://testserver")


def entries(action: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action).order_by("id"))


def test_who_is_new_becomes_a_member_in_the_role_of_their_groups(provider: RunningProvider, client: Client) -> None:
    response = go(client, "ada", next_url="/admin/keys/gatewaykey/")
    assert response.headers["Location"] == "/admin/keys/gatewaykey/"
    assert client.get("/admin/access/member/").status_code == 200
    member = Member.objects.get()
    assert (member.username, member.name, member.email) == ("ada.oidc", "Ada Oidc", "ada@example.com")
    assert (member.role, member.has_usable_password(), member.is_active) == ("admin", False, True)
    assert ExternalAccount.objects.get().subject == "ada"
    (created,), (signed_in,) = entries("member.created"), entries("session.signed_in")
    assert created.actor_label == "sign-in through Example SSO"
    assert (signed_in.actor_label, signed_in.credential) == ("ada.oidc", "oidc:Example SSO")


def test_the_highest_role_of_several_groups_counts_and_names_are_made_to_fit(provider: RunningProvider) -> None:
    for subject in ("max", "amy", "tom"):
        assert go(Client(), subject).status_code == 302
    found = {account.subject: account.member for account in ExternalAccount.objects.all()}
    assert [found[subject].role for subject in ("max", "amy", "tom")] == ["manager", "auditor", "manager"]
    assert found["amy"].username == "amy--idc"
    assert found["tom"].username.startswith("member-")


def test_who_comes_again_is_the_same_member(provider: RunningProvider) -> None:
    for _ in range(2):
        go(Client(), "max")
    assert Member.objects.count() == ExternalAccount.objects.count() == 1
    assert MemberSession.objects.filter(method="oidc:Example SSO", member__isnull=False).count() == 2


def test_a_name_that_is_taken_is_never_taken_over(provider: RunningProvider) -> None:
    local = make_member("admin", username="max.oidc", email="max@example.com")
    go(Client(), "max")
    other = ExternalAccount.objects.get().member
    assert other != local
    assert other.username.startswith("max.oidc-")


def test_the_role_follows_the_groups_at_each_sign_in(provider: RunningProvider, client: Client, settings: Any) -> None:
    go(client, "max")
    settings.KEEPTRUSTS_OIDC = provider.settings(roles={"football": "auditor"})
    go(Client(), "max")
    assert Member.objects.get().role == "auditor"
    (changed,) = entries("member.role_changed")
    assert (changed.before, changed.after) == ({"role": "manager"}, {"role": "auditor"})
    assert changed.actor_label == "sign-in through Example SSO"


def test_who_is_in_no_group_that_has_a_role_is_refused_with_a_page(provider: RunningProvider, client: Client) -> None:
    response = go(client, "sam")
    assert response.status_code == 403
    assert "You may not sign in here" in text_of(response)
    assert not Member.objects.exists()
    assert client.get("/admin/").status_code == 302
    (failed,) = entries("session.sign_in_failed")
    assert failed.detail == {"method": "oidc:Example SSO", "code": "no_role"}


def test_who_has_lost_their_groups_is_signed_out_when_they_come_again(
    provider: RunningProvider, client: Client, settings: Any
) -> None:
    go(client, "max")
    settings.KEEPTRUSTS_OIDC = provider.settings(roles={"platform": "admin"})
    assert go(Client(), "max").status_code == 403
    assert client.get("/admin/").status_code == 302


def test_who_was_taken_out_stays_out(provider: RunningProvider, browser: BrowserOf, admin: Member) -> None:
    go(Client(), "max")
    member = ExternalAccount.objects.get().member
    members.take_out(actor=actor_of(admin), member_id=member.pk)
    response = go(Client(), "max")
    assert (response.status_code, "You were taken out" in text_of(response)) == (403, True)
    assert not Member.objects.get(pk=member.pk).is_active
    client = browser(admin)
    page = client.get("/admin/access/member/?state=out")
    assert member.username in text_of(page)
    client.post(f"/admin/access/member/{member.pk}/let_in/", SENT)
    assert go(Client(), "max").status_code == 302


def test_the_last_admin_is_not_made_less_by_the_provider(
    provider: RunningProvider, client: Client, settings: Any
) -> None:
    go(client, "ada")
    settings.KEEPTRUSTS_OIDC = provider.settings(roles={"platform": "auditor"})
    response = go(Client(), "ada")
    assert "No Admin would be left" in text_of(response)
    assert Member.objects.get().role == "admin"


def test_nobody_is_added_where_that_is_not_wanted(provider: RunningProvider, client: Client, settings: Any) -> None:
    settings.KEEPTRUSTS_OIDC = provider.settings(allow_new=False)
    assert "You are no member here" in text_of(go(client, "max"))
    assert not Member.objects.exists()


def test_state_nonce_and_pkce_are_sent_and_none_may_be_missing(provider: RunningProvider, client: Client) -> None:
    began = client.get(BEGIN).headers["Location"]
    asked = parse_qs(urlsplit(began).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == ["http://testserver/admin/login/oidc/callback/"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[name][0]) >= 20
    back = back_from(began, "max")
    # Somebody else's browser, which has begun nothing; then ours with another state, without one, and a second time.
    assert Client().get(back).status_code == 403
    assert client.get(back.replace("state=", "state=x")).status_code == 403
    assert client.get(back.partition("&state")[0]).status_code == 403
    assert client.get(back).status_code == 302
    assert client.get(back).status_code == 403


@pytest.mark.parametrize("what", ["nonce", "code_verifier"])
def test_a_code_that_was_got_by_another_browser_is_of_no_use(
    provider: RunningProvider, client: Client, what: str
) -> None:
    theirs, ours = (browser.get(BEGIN).headers["Location"] for browser in (Client(), client))
    stolen = parse_qs(urlsplit(back_from(theirs, "ada")).query)["code"][0]
    state = parse_qs(urlsplit(ours).query)["state"][0]
    if what == "nonce":
        # As if the provider did not look at PKCE.
        provider.guard._fits = lambda environ: True  # type: ignore[method-assign]  # this provider is ours
    response = client.get(f"{BEGIN}callback/?code={stolen}&state={state}")
    assert response.status_code == 403
    assert not Member.objects.exists()


def test_a_token_for_somebody_else_or_of_another_issuer_is_refused(provider: RunningProvider, settings: Any) -> None:
    settings.KEEPTRUSTS_OIDC = provider.settings(issuer=f"{provider.issuer}/")
    response = go(Client(), "ada")
    assert "That sign-in was not accepted" in text_of(response)
    assert not Member.objects.exists()


def test_cancelled_at_the_provider_leads_back_with_words(provider: RunningProvider, client: Client) -> None:
    client.get(BEGIN)
    response = client.get(f"{BEGIN}callback/?error=access_denied&state=x")
    assert "That sign-in was not accepted" in text_of(response)


def test_a_provider_that_is_away_is_said_and_passwords_go_on(client: Client, settings: Any) -> None:
    with running_provider({}) as provider:
        settings.KEEPTRUSTS_OIDC = provider.settings()
    response = client.get(BEGIN)
    assert response.status_code == 503
    assert "Example SSO does not answer" in text_of(response)
    assert "Sign in with Example SSO" in text_of(client.get("/admin/login/"))


def test_the_second_factor_may_be_ours_all_the_same(provider: RunningProvider, client: Client, settings: Any) -> None:
    settings.KEEPTRUSTS_OIDC = provider.settings(trusts_second_factor=False)
    settings.KEEPTRUSTS_REQUIRE_MFA = frozenset({"admin"})
    go(client, "ada")
    assert client.get("/admin/").headers["Location"] == "/admin/account/"
    give_totp(Member.objects.get())
    assert go(Client(), "ada").headers["Location"] == "/admin/login/second-factor/"
    settings.KEEPTRUSTS_OIDC = provider.settings()
    trusted = Client()
    go(trusted, "ada")
    assert trusted.get("/admin/").status_code == 200


def test_the_provider_proves_again_who_has_no_password(provider: RunningProvider, client: Client) -> None:
    go(client, "ada")
    assert "Confirm with Example SSO" in text_of(client.get("/admin/confirm/"))
    began = client.get(f"{BEGIN}?next=/admin/access/member/add/").headers["Location"]
    assert parse_qs(urlsplit(began).query)["prompt"] == ["login"]
    response = client.get(back_from(began, "ada"))
    assert response.headers["Location"] == "/admin/access/member/add/"
    assert [entry.detail["method"] for entry in entries("session.confirmed")] == ["oidc:Example SSO"]
    assert len(entries("session.signed_in")) == 1


def test_without_a_provider_there_is_no_such_way(client: Client, db: None) -> None:
    assert client.get(BEGIN).status_code == client.get(f"{BEGIN}callback/").status_code == 404
    assert "Sign in with" not in text_of(client.get("/admin/login/")).replace("Sign in with a passkey", "")


GROUPS = {"a": "admin", "m": "manager"}


@pytest.mark.parametrize(
    ("claim", "role"),
    [
        (["a", "m"], "admin"),
        (["m"], "manager"),
        ("m", "manager"),
        ([], None),
        (None, None),
        ({"a": 1}, None),
        (7, None),
    ],
)
def test_groups_in_any_shape_give_a_role_or_none(claim: Any, role: str | None) -> None:
    provider = RunningProvider({})
    provider.server.server_close()
    assert oidc.role_of({"groups": claim}, provider.settings(roles=GROUPS)) == role


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"ISSUER": "http://sso.example"}, "must be an https address"),
        ({"CLIENT_SECRET": ""}, "KEEPTRUSTS_OIDC_CLIENT_SECRET is not"),
        ({"ROLE_MAP": ""}, "KEEPTRUSTS_OIDC_ROLE_MAP is not set"),
        ({"ROLE_MAP": "platform=king"}, "each part is group=role"),
        ({"ROLE_MAP": "=admin"}, "each part is group=role"),
    ],
)
def test_a_provider_that_is_half_set_up_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], complaint: str
) -> None:
    whole = {"ISSUER": "https://sso.example", "CLIENT_ID": "x", "CLIENT_SECRET": "x", "ROLE_MAP": "a=b=admin,c=auditor"}
    for name, value in {**whole, **given}.items():
        monkeypatch.setenv(f"KEEPTRUSTS_OIDC_{name}", value)
    with pytest.raises(ImproperlyConfigured, match=complaint):
        sign_in_settings.read(FileAwareEnv(), embedded=True)


def test_the_secret_may_come_from_a_file_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("from a file")
    for name, value in {"ISSUER": "https://sso.example", "CLIENT_ID": "x", "ROLE_MAP": "a=b=admin,c=auditor"}.items():
        monkeypatch.setenv(f"KEEPTRUSTS_OIDC_{name}", value)
    monkeypatch.setenv("KEEPTRUSTS_OIDC_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    provider = sign_in_settings.read(FileAwareEnv(), embedded=True).provider
    assert provider
    assert (provider.client_secret, provider.roles) == ("from a file", {"a=b": "admin", "c": "auditor"})
    assert "from a file" not in repr(provider)


@pytest.mark.parametrize(
    ("text", "embedded", "roles"),
    [
        (None, True, set()),
        (None, False, {"admin"}),
        ("none", False, set()),
        ("admin, manager", True, {"admin", "manager"}),
    ],
)
def test_a_second_factor_is_for_admins_outside_the_embedded_mode(
    monkeypatch: pytest.MonkeyPatch, text: str | None, embedded: bool, roles: set[str]
) -> None:
    monkeypatch.delenv("KEEPTRUSTS_REQUIRE_MFA", raising=False)
    if text is not None:
        monkeypatch.setenv("KEEPTRUSTS_REQUIRE_MFA", text)
    assert sign_in_settings.read(FileAwareEnv(), embedded=embedded).require_mfa == roles
    monkeypatch.setenv("KEEPTRUSTS_REQUIRE_MFA", "kings")
    with pytest.raises(ImproperlyConfigured, match="names kings"):
        sign_in_settings.read(FileAwareEnv(), embedded=embedded)
