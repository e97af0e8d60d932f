from __future__ import annotations

from base64 import b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from audit.notes import VerifierKey
from audit.signing import public_keys, public_of


class Command(BaseCommand):
    help = "Print the public keys that the audit log's checkpoints are believed by, or a new pair."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--new", action="store_true", help="make a pair, for KEEPTRUSTS_AUDIT_SIGNING_KEY; it is kept nowhere"
        )

    def handle(self, *args: Any, new: bool, **options: Any) -> None:
        if not new:
            self.stdout.write("\n".join(public_keys()))
            return
        private = Ed25519PrivateKey.generate()
        self.stdout.write(f"KEEPTRUSTS_AUDIT_SIGNING_KEY={b64encode(private.private_bytes_raw()).decode()}")
        self.stdout.write(f"public key: {VerifierKey(public_of(private).public, settings.KEEPTRUSTS_AUDIT_ORIGIN)}")
