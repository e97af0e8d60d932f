from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.actor import Actor
from gateways.leaks import Leak, find_leaks, revoke_leak

PART: Final = 1 << 20


class Command(BaseCommand):
    help = (
        "Look through text on standard input for values of gateway keys, gateway tokens and access keys that are known "
        "here, and name whose they are; the value itself is never shown. Exit status: 0 nothing that lets in was "
        "found, 1 something was (also where --revoke has revoked it), 2 the search could not be done."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--revoke", action="store_true", help="revoke at once what is found and still lets in")
        parser.add_argument("--reason", default="", help="with --revoke: kept with every key and in the audit log")

    def handle(self, *args: Any, revoke: bool, reason: str, **options: Any) -> None:
        if reason and not revoke:
            raise CommandError("--reason goes with --revoke.", returncode=2)
        if revoke and not reason:
            raise CommandError("--revoke needs a --reason: it is what the key's owner will read.", returncode=2)
        live = 0
        for leak in find_leaks(_parts(sys.stdin.buffer)):
            live += leak.is_live
            self.stdout.write(_line(leak) + (self._revoked(leak, reason) if revoke and leak.is_live else ""))
            self.stdout.flush()
        if live:
            sys.exit(1)

    def _revoked(self, leak: Leak, reason: str) -> str:
        try:
            done = revoke_leak(leak, actor=Actor.system("find_leaked command"), reason=reason)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from error
        return "\trevoked now" if done else "\tnot revoked: rotate this gateway's token, and give it the new one"


def _line(leak: Leak) -> str:
    """Return what is said of a value, in columns that `cut` and `awk` can take apart."""
    verdict = "LETS IN" if leak.is_live else "harmless"
    return "\t".join((verdict, leak.kind, str(leak.id), leak.hint, leak.status, leak.name, leak.detail))


def _parts(stream: BinaryIO) -> Iterator[bytes]:
    # What is there, without waiting for more: text that is followed as it is written is searched as it comes.
    while part := stream.read1(PART) if hasattr(stream, "read1") else stream.read(PART):
        yield part
