"""The rule book: what design §7 says of each role, for permissions, single objects and what is visible."""

from __future__ import annotations

import pytest
from django.db.models import Model

from access.access_keys import create_access_key, revoke_access_key
from access.models import AccessKey, Member
from access.refusals import Forbidden
from access.rules import PERMISSIONS, Role
from audit.models import AuditEntry
from gateways.models import Gateway
from keys import lifecycle
from keys.models import ConsumerGroup, GatewayKey
from tests.factories import actor_of, make_access_key, make_gateway, make_group, make_key, make_member

pytestmark = pytest.mark.django_db

# Design §7, said again by hand: a change of the rule book has to be made twice.
ADMIN_ONLY = {
    "keys.add_consumergroup",
    "keys.change_consumergroup",
    "keys.change_installationpolicy",
    "gateways.add_gateway",
    "gateways.change_gateway",
    "gateways.rotate_token_gateway",
    "webhooks.view_webhookendpoint",
    "webhooks.add_webhookendpoint",
    "webhooks.change_webhookendpoint",
    "webhooks.rotate_secret_webhookendpoint",
    "webhooks.disable_webhookendpoint",
    "webhooks.enable_webhookendpoint",
    "webhooks.test_webhookendpoint",
    "webhooks.redeliver_webhookendpoint",
    "webhooks.view_delivery",
    "webhooks.redeliver_delivery",
    "access.view_member",
    "access.add_member",
    "access.change_member",
}
NOT_AUDITOR = {
    "keys.add_gatewaykey",
    "keys.change_gatewaykey",
    "keys.rotate_gatewaykey",
    "keys.end_grace_gatewaykey",
    "keys.extend_grace_gatewaykey",
    "keys.disable_gatewaykey",
    "keys.enable_gatewaykey",
    "keys.revoke_gatewaykey",
}
NOT_MANAGER = {"audit.export_auditentry", "audit.verify_auditentry", "access.review_member"}


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_each_role_may_what_the_design_says(permission: str, admin: Member, manager: Member, auditor: Member) -> None:
    assert admin.may(permission)
    assert manager.may(permission) == (permission not in ADMIN_ONLY | NOT_MANAGER)
    assert auditor.may(permission) == (permission not in ADMIN_ONLY | NOT_AUDITOR)


@pytest.mark.parametrize("permission", ["keys.delete_gatewaykey", "audit.change_auditentry", "nonsense", ""])
def test_what_the_rule_book_does_not_list_is_nobodys(permission: str, admin: Member) -> None:
    assert not admin.may(permission)
    assert not admin.has_perm(permission)


def test_is_superuser_opens_nothing(auditor: Member) -> None:
    auditor.is_superuser = True  # type: ignore[attr-defined]  # there is no such field; somebody sets it anyway
    assert not auditor.has_perm("keys.add_gatewaykey")
    assert not auditor.has_perms(["keys.view_gatewaykey", "keys.add_gatewaykey"])


def test_a_member_who_was_taken_out_may_nothing(admin: Member) -> None:
    make_key()
    admin.is_active = False
    assert not any(admin.may(permission) for permission in PERMISSIONS)
    assert not admin.visible(GatewayKey.objects.all()).exists()
    assert not admin.is_staff


class Estate:
    """Two managers with a group each, a group for all, keys in each and one for every group."""

    def __init__(self, manager: Member) -> None:
        self.mine = make_group("mine", managers=[manager])
        self.foreign = make_group("foreign", managers=[make_member(Role.MANAGER)])
        self.common = make_group("common")
        self.keys = {
            group.slug if group else "unscoped": make_key(consumer_group=group).key
            for group in (self.mine, self.foreign, self.common, None)
        }


@pytest.fixture
def estate(manager: Member) -> Estate:
    return Estate(manager)


def names(member: Member, model: type[Model], field: str) -> set[str]:
    return set(member.visible(model._default_manager.all()).values_list(field, flat=True))


def test_a_manager_sees_their_groups_and_keys_and_admin_and_auditor_all(
    estate: Estate, admin: Member, manager: Member, auditor: Member
) -> None:
    for member in (admin, auditor):
        assert names(member, ConsumerGroup, "slug") == {"mine", "foreign", "common"}
        assert member.visible(GatewayKey.objects.all()).count() == 4
    assert names(manager, ConsumerGroup, "slug") == {"mine", "common"}
    seen = set(manager.visible(GatewayKey.objects.all()))
    assert seen == {estate.keys["mine"], estate.keys["common"], estate.keys["unscoped"]}


def test_a_manager_changes_only_what_is_theirs(estate: Estate, admin: Member, manager: Member) -> None:
    allowed = {slug: manager.may("keys.rotate_gatewaykey", key) for slug, key in estate.keys.items()}
    assert allowed == {"mine": True, "foreign": False, "common": True, "unscoped": False}
    assert all(admin.may("keys.rotate_gatewaykey", key) for key in estate.keys.values())
    viewable = {slug: manager.may("keys.view_gatewaykey", key) for slug, key in estate.keys.items()}
    assert viewable == {"mine": True, "foreign": False, "common": True, "unscoped": True}


def test_a_manager_reads_their_own_actions_and_all_about_their_keys(
    estate: Estate, admin: Member, manager: Member, auditor: Member
) -> None:
    lifecycle.disable(actor=actor_of(admin), key_id=estate.keys["mine"].id)
    lifecycle.disable(actor=actor_of(admin), key_id=estate.keys["foreign"].id)
    create_access_key(actor=actor_of(manager), owner=manager, name="own action")
    everything = AuditEntry.objects.count()
    assert admin.visible(AuditEntry.objects.all()).count() == everything
    assert auditor.visible(AuditEntry.objects.all()).count() == everything
    seen = manager.visible(AuditEntry.objects.all())
    assert seen.filter(object_id=str(estate.keys["mine"].id)).count() == 2
    assert not seen.filter(object_id=str(estate.keys["foreign"].id)).exists()
    assert seen.filter(action="access_key.created").count() == 1
    assert not seen.filter(object_type__in=["consumer_group", "member"]).exists()


def test_a_manager_sees_the_gateways_that_serve_their_groups(estate: Estate, admin: Member, manager: Member) -> None:
    make_gateway("for all")
    make_gateway("for mine", consumer_groups=[estate.mine, estate.foreign])
    make_gateway("for foreign", consumer_groups=[estate.foreign])
    assert names(manager, Gateway, "name") == {"for all", "for mine"}
    assert names(admin, Gateway, "name") == {"for all", "for mine", "for foreign"}


def test_access_keys_are_their_owners_and_admins_may_revoke_them(
    admin: Member, manager: Member, auditor: Member
) -> None:
    key = make_access_key(manager).access_key
    make_access_key(auditor)
    assert set(manager.visible(AccessKey.objects.all())) == {key}
    assert admin.visible(AccessKey.objects.all()).count() == 2
    with pytest.raises(Forbidden):
        create_access_key(actor=actor_of(admin), owner=manager, name="in another's name")
    with pytest.raises(Forbidden):
        revoke_access_key(actor=actor_of(auditor), access_key_id=key.id)
    assert revoke_access_key(actor=actor_of(admin), access_key_id=key.id).revoked_at
