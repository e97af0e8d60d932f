"""Everything that the audit log can say, hierarchical and in the past tense (design §3)."""

from __future__ import annotations

from django.db import models


class AuditAction(models.TextChoices):
    KEY_CREATED = "gateway_key.created", "Key created"
    KEY_EDITED = "gateway_key.edited", "Key edited"
    KEY_DISABLED = "gateway_key.disabled", "Key disabled"
    KEY_ENABLED = "gateway_key.enabled", "Key enabled"
    KEY_ROTATED = "gateway_key.rotated", "Key rotated"
    KEY_GRACE_ENDED = "gateway_key.grace_ended", "Grace ended"
    KEY_GRACE_EXTENDED = "gateway_key.grace_extended", "Grace extended"
    KEY_GRACE_SHORTENED = "gateway_key.grace_shortened", "Grace shortened"
    KEY_REVOKED = "gateway_key.revoked", "Key revoked"
    KEY_EXPIRED = "gateway_key.expired", "Key expired"
    KEY_EXPORTED = "gateway_key.exported", "Keys exported"
    KEY_CREATE_REFUSED = "gateway_key.create_refused", "Creating a key refused"
    KEY_EDIT_REFUSED = "gateway_key.edit_refused", "Editing a key refused"
    KEY_DISABLE_REFUSED = "gateway_key.disable_refused", "Disabling a key refused"
    KEY_ENABLE_REFUSED = "gateway_key.enable_refused", "Enabling a key refused"
    KEY_ROTATE_REFUSED = "gateway_key.rotate_refused", "Rotating a key refused"
    KEY_END_GRACE_REFUSED = "gateway_key.end_grace_refused", "Ending grace refused"
    KEY_EXTEND_GRACE_REFUSED = "gateway_key.extend_grace_refused", "Extending grace refused"
    KEY_REVOKE_REFUSED = "gateway_key.revoke_refused", "Revoking a key refused"

    GROUP_CREATED = "consumer_group.created", "Consumer group created"
    GROUP_EDITED = "consumer_group.edited", "Consumer group edited"
    GROUP_CREATE_REFUSED = "consumer_group.create_refused", "Creating a consumer group refused"
    GROUP_EDIT_REFUSED = "consumer_group.edit_refused", "Editing a consumer group refused"

    POLICY_EDITED = "policy.edited", "Policy of the installation edited"
    POLICY_EDIT_REFUSED = "policy.edit_refused", "Editing the installation's policy refused"

    GATEWAY_CREATED = "gateway.created", "Gateway registered"
    GATEWAY_EDITED = "gateway.edited", "Gateway edited"
    GATEWAY_TOKEN_ROTATED = "gateway.token_rotated", "Gateway token rotated"
    GATEWAY_CREATE_REFUSED = "gateway.create_refused", "Registering a gateway refused"
    GATEWAY_EDIT_REFUSED = "gateway.edit_refused", "Editing a gateway refused"
    GATEWAY_ROTATE_TOKEN_REFUSED = "gateway.rotate_token_refused", "Rotating a gateway token refused"

    ACCESS_KEY_CREATED = "access_key.created", "Access key created"
    ACCESS_KEY_REVOKED = "access_key.revoked", "Access key revoked"
    ACCESS_KEY_CREATE_REFUSED = "access_key.create_refused", "Creating an access key refused"
    ACCESS_KEY_REVOKE_REFUSED = "access_key.revoke_refused", "Revoking an access key refused"

    MEMBER_CREATED = "member.created", "Member added"
    MEMBER_INVITED = "member.invited", "Member invited"
    MEMBER_INVITATION_WITHDRAWN = "member.invitation_withdrawn", "Invitation withdrawn"
    MEMBER_JOINED = "member.joined", "Member joined"
    MEMBER_EDITED = "member.edited", "Member edited"
    MEMBER_ROLE_CHANGED = "member.role_changed", "Role changed"
    MEMBER_PASSWORD_CHANGED = "member.password_changed", "Password changed"
    MEMBER_DEACTIVATED = "member.deactivated", "Member taken out"
    MEMBER_REACTIVATED = "member.reactivated", "Member let in again"
    MEMBER_CREATE_REFUSED = "member.create_refused", "Adding a member refused"
    MEMBER_EDIT_REFUSED = "member.edit_refused", "Editing a member refused"

    SESSION_SIGNED_IN = "session.signed_in", "Signed in"
    SESSION_SIGNED_OUT = "session.signed_out", "Signed out"
    SESSION_SIGN_IN_FAILED = "session.sign_in_failed", "Sign-in failed"

    USAGE_RECOUNTED = "usage.recounted", "Usage sums repaired"
    USAGE_EXPORTED = "usage.exported", "Usage exported"
    AUDIT_EXPORTED = "audit.exported", "Audit log exported"
    AUDIT_VERIFIED = "audit.verified", "Audit log verified"
    EXPORT_REFUSED = "audit.export_refused", "Export refused"
