"""Keys and groups as the API shows and takes them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access.models import Member
from access.serializers import (
    FlagField,
    InstantField,
    NumberField,
    OneOfField,
    StrictSerializer,
    TextField,
    TextListField,
)
from audit import clock
from keys.models import MOST_DAYS, MOST_GRACE_SECONDS, ConsumerGroup, GatewayKey, KeyVersion
from keys.policy import POLICY
from keys.policy_impact import ExistingKeys
from keys.status import KeyStatus, VersionState

# --- keys, as they are shown ------------------------------------------------------------------------------------------


class VersionJSON(serializers.Serializer[KeyVersion]):
    number = serializers.IntegerField()
    hint = serializers.CharField()
    state = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    valid_until = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.SerializerMethodField()
    total_requests = serializers.SerializerMethodField()

    @extend_schema_field(serializers.ChoiceField(VersionState.choices))
    def get_state(self, version: KeyVersion) -> str:
        return version.state_at(clock.now()).value

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_last_used_at(self, version: KeyVersion) -> str | None:
        # `metrics` is a model of the usage house, reached by its name (design §10); absent until something is counted.
        metrics = getattr(version, "metrics", None)
        return _instant(metrics.last_used_at) if metrics else None

    def get_total_requests(self, version: KeyVersion) -> int:
        metrics = getattr(version, "metrics", None)
        return metrics.total_requests if metrics else 0


class MetricsJSON(serializers.Serializer[Any]):
    """The figures of a key. A rate is 0..1 of the requests whose status was reported; null where none was."""

    total_requests = serializers.IntegerField(default=0)
    last_used_at = serializers.DateTimeField(allow_null=True, default=None)
    requests_24h = serializers.IntegerField(default=0)
    error_rate = serializers.FloatField(allow_null=True, default=None)
    error_rate_24h = serializers.FloatField(allow_null=True, default=None)


class KeyJSON(serializers.ModelSerializer[GatewayKey]):
    consumer_group = serializers.SlugRelatedField("slug", read_only=True, allow_null=True)  # type: ignore[var-annotated]
    status = serializers.SerializerMethodField()
    created_by = serializers.SerializerMethodField()
    owner = serializers.SlugRelatedField("username", read_only=True, allow_null=True)  # type: ignore[var-annotated]
    allowed_networks = serializers.ListField(child=serializers.CharField())
    revoked_by = serializers.SerializerMethodField()
    versions = VersionJSON(many=True)
    metrics = serializers.SerializerMethodField()

    class Meta:
        model = GatewayKey
        fields = [
            "id",
            "name",
            "description",
            "consumer_group",
            "status",
            "hint",
            "created_at",
            "created_by",
            "owner",
            "expires_at",
            "allowed_networks",
            "disabled_at",
            "revoked_at",
            "revoked_by",
            "revoke_reason",
            "versions",
            "metrics",
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(KeyStatus.choices))
    def get_status(self, key: GatewayKey) -> str:
        return key.status.value

    def get_created_by(self, key: GatewayKey) -> str:
        """A username, or `system`."""
        return name_of(key.created_by)

    def get_revoked_by(self, key: GatewayKey) -> str | None:
        """A username, or `system`; null for a key that is not revoked."""
        return name_of(key.revoked_by) if key.revoked_at else None

    @extend_schema_field(MetricsJSON)
    def get_metrics(self, key: GatewayKey) -> dict[str, Any]:
        return metrics_json(key)


class IssuedKeyJSON(KeyJSON):
    value = serializers.CharField(help_text="`kt_gk_…`. Shown this once.")

    class Meta(KeyJSON.Meta):
        fields = [*KeyJSON.Meta.fields, "value"]


def metrics_json(key: GatewayKey) -> dict[str, Any]:
    """Return a key's figures; of a key that nobody has used, zeros and nulls."""
    return dict(MetricsJSON(getattr(key, "metrics", None) or {}).data)


def name_of(member: Member | None) -> str:
    return member.username if member else "system"


def _instant(at: Any) -> Any:
    return serializers.DateTimeField().to_representation(at) if at else None


# --- keys, as they are asked for -------------------------------------------------------------------------------------


class GroupField(TextField):
    """The slug of a group that the caller sees."""

    default_error_messages = {"does_not_exist": "There is no such consumer group that you may see."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_blank": False, **kwargs})

    def to_internal_value(self, data: Any) -> ConsumerGroup:  # type: ignore[override]  # a slug stands for its group
        slug = super().to_internal_value(data)
        request: HttpRequest = self.context["request"]
        group = request.user.visible(ConsumerGroup.objects.all()).filter(slug=slug).first()  # type: ignore[union-attr]
        if group is None:
            self.fail("does_not_exist")
        return group


class OwnerField(TextField):
    """The username of an active member."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_blank": False, **kwargs})

    def to_internal_value(self, data: Any) -> Member:  # type: ignore[override]  # a username stands for its member
        member: Member | None = Member.objects.active().filter(username=super().to_internal_value(data)).first()
        if member is None:
            raise serializers.ValidationError("There is no active member of this name.", code="does_not_exist")
        return member


class NewKey(StrictSerializer):
    name = TextField()
    description = TextField(required=False)
    consumer_group = GroupField(required=False, allow_null=True, help_text="A slug; null: traffic of every group.")
    expires_at = InstantField(
        required=False, allow_null=True, help_text="Absent: as the group's policy proposes. Null: never."
    )
    allowed_networks = TextListField(required=False, help_text="CIDR, IPv4 and IPv6. Empty: anywhere.")
    owner = OwnerField(
        required=False, allow_null=True, help_text="Who answers for it, a username; null: nobody. Absent: the caller."
    )


class KeyChanges(NewKey):
    """What is absent stays."""

    name = TextField(required=False)


class Rotation(StrictSerializer):
    grace_seconds = NumberField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=MOST_GRACE_SECONDS,
        help_text="How long the old value stays accepted. 0: not at all. Absent: the default, within the policy.",
    )
    renew_expiry = FlagField(required=False, help_text="Set the expiry anew by the key's lifetime (default).")


class GraceExtension(StrictSerializer):
    """One of both."""

    grace_seconds = NumberField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=MOST_GRACE_SECONDS,
        help_text="For how long from now. Within the group's ceiling, and cut to the key's expiry.",
    )
    until = InstantField(required=False, allow_null=True, help_text="Until when, likewise.")


class Revocation(StrictSerializer):
    reason = TextField(required=False)


# --- groups -----------------------------------------------------------------------------------------------------------


class GroupJSON(serializers.ModelSerializer[ConsumerGroup]):
    managers = serializers.SerializerMethodField()
    allowed_networks = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ConsumerGroup
        fields = ["id", "name", "slug", "description", "managers", *POLICY, "created_at"]
        read_only_fields = fields

    def get_managers(self, group: ConsumerGroup) -> list[str]:
        """Usernames; empty: every Manager."""
        return sorted(member.username for member in group.managers.all())


class ManagersField(TextListField):
    """Usernames of active members."""

    default_error_messages = {"does_not_exist": "There is no active member “{username}”."}

    def to_internal_value(self, data: Any) -> list[Member]:
        usernames = list(dict.fromkeys(super().to_internal_value(data)))
        members = {member.username: member for member in Member.objects.active().filter(username__in=usernames)}
        for username in usernames:
            if username not in members:
                self.fail("does_not_exist", username=username[:150])
        return list(members.values())


def _days(help_text: str) -> NumberField:
    return NumberField(required=False, allow_null=True, min_value=1, max_value=MOST_DAYS, help_text=help_text)


class PolicyRules(StrictSerializer):
    """The rules of a policy. What is absent stays."""

    default_lifetime_days = _days("The expiry proposed for a new key.")
    max_lifetime_days = _days("No key may be set to expire later than this.")
    expiry_required = FlagField(required=False)
    max_grace_seconds = NumberField(required=False, allow_null=True, min_value=0, max_value=MOST_GRACE_SECONDS)
    allowed_networks = TextListField(required=False, help_text="CIDR. Empty: anywhere.")
    idle_days = _days("Keys that nobody has used for so long are revoked.")


class GroupRules(PolicyRules):
    """What is absent stays."""

    name = TextField(required=False)
    description = TextField(required=False)
    managers = ManagersField(required=False, help_text="Usernames of Managers. Empty: every Manager.")


class PolicyChanges(PolicyRules):
    existing_keys = OneOfField(
        choices=list(ExistingKeys),
        required=False,
        help_text="What is to become of keys that the change breaks: `leave` them as they are, listed as breaking "
        "their policy, or `align` them, which brings each into line. Absent: 409 `policy_breaks_keys`.",
    )


class GroupChanges(GroupRules, PolicyChanges):
    """What is absent stays."""


class NewGroup(GroupRules):
    name = TextField()
    slug = TextField(max_length=60, help_text="What gateways call it; fixed once the group is created.")
