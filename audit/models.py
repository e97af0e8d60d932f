"""The audit log: entries, their leaves in one global Merkle tree, and the checkpoints of that tree.

Every table but the sealer's queue is append-only by database triggers (migration 0002).
"""

from __future__ import annotations

import json
from datetime import UTC

from django.db import models

from audit.actions import AuditAction
from audit.actor import ActorKind
from audit.merkle import leaf_hash


class AuditEntry(models.Model):
    """One fact: who did what to which object, when, from where, before and after."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    action = models.CharField(max_length=64, choices=AuditAction)
    actor_kind = models.CharField(max_length=16, choices=[(kind.value, kind.value) for kind in ActorKind])
    actor_id = models.CharField(max_length=64, blank=True)
    actor_label = models.CharField(max_length=200)
    credential = models.CharField(max_length=200, blank=True)
    ip = models.GenericIPAddressField("address", null=True)
    object_type = models.CharField(max_length=32)
    object_id = models.CharField(max_length=64, blank=True)
    object_label = models.CharField(max_length=300, blank=True)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    detail = models.JSONField(default=dict)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit log"
        indexes = [
            models.Index(fields=["object_type", "object_id", "-id"], name="audit_entry_object"),
            models.Index(fields=["actor_kind", "actor_id", "-id"], name="audit_entry_actor"),
            # By the id alone, as a search gives it.
            models.Index(fields=["object_id", "-id"], name="audit_entry_object_id"),
            models.Index(fields=["action", "-id"], name="audit_entry_action"),
            models.Index(fields=["at"], name="audit_entry_at"),
            models.Index(fields=["actor_label", "-id"], name="audit_entry_who"),
        ]

    def __str__(self) -> str:
        about = f": {self.object_label}" if self.object_label else ""
        return f"{self.get_action_display()}{about} by {self.actor_label}"

    def canonical(self) -> bytes:
        """Return what is hashed: every column, as JSON with sorted names and no spaces, in UTF-8."""
        facts = {
            "id": self.id,
            "at": self.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "action": self.action,
            "actor_kind": self.actor_kind,
            "actor_id": self.actor_id,
            "actor_label": self.actor_label,
            "credential": self.credential,
            "ip": self.ip,
            "object_type": self.object_type,
            "object_id": self.object_id,
            "object_label": self.object_label,
            "before": self.before,
            "after": self.after,
            "detail": self.detail,
        }
        return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def leaf_hash(self) -> bytes:
        """Return the entry's leaf in the tree, RFC 6962 §2.1."""
        return leaf_hash(self.canonical())


class UnsealedEntry(models.Model):
    """The sealer's queue: a trigger puts every new entry here, in the entry's own transaction."""

    entry = models.OneToOneField(
        AuditEntry, on_delete=models.DO_NOTHING, primary_key=True, related_name="unsealed", db_constraint=False
    )

    def __str__(self) -> str:
        return f"entry {self.pk}"


class AuditLeaf(models.Model):
    """The place of an entry in the tree. No foreign key in the database: a deleted entry must leave a trace."""

    index = models.BigIntegerField(primary_key=True)
    entry = models.OneToOneField(AuditEntry, on_delete=models.DO_NOTHING, related_name="leaf", db_constraint=False)
    hash = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return f"leaf {self.index}: entry {self.entry_id}"


class Checkpoint(models.Model):
    """The tree as it was at a moment, signed (`audit.notes`), counted from 1 without a gap.

    Its number is what a sealer swaps against: of two that go on from the same checkpoint, one cannot be written.
    """

    number = models.BigIntegerField(primary_key=True)
    size = models.BigIntegerField()
    root = models.BinaryField(max_length=32)
    # The peaks of the complete subtrees, largest first: what the next sealing goes on from.
    peaks = models.BinaryField()
    at = models.DateTimeField()
    note = models.TextField()

    class Meta:
        indexes = [models.Index(fields=["size"], name="audit_checkpoint_size")]

    def __str__(self) -> str:
        return f"checkpoint {self.number}: {self.size} entries, root {bytes(self.root).hex()}"


class CheckpointCopy(models.Model):
    """How far the copies outside the database have got that do not tell it themselves, and what last went wrong."""

    destination = models.CharField(max_length=200, primary_key=True)
    number = models.BigIntegerField(default=0)
    at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"{self.destination}: up to checkpoint {self.number}"
