"""Make a gateway and so many gateway keys, and print them: python -m bench.population COUNT.

First the gateway's token, then the values, a line each. DATABASE_URL says where; missing tables are made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import batched

import django
from django.core.management import call_command

BATCH = 5_000


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keeptrusts.settings")
    django.setup()
    call_command("migrate", verbosity=0)
    # Models: after the setup alone.
    from audit.actor import Actor
    from gateways.registry import create_gateway

    print(create_gateway(actor=Actor.system("bench"), name="bench").value)
    for value in make_keys(int(sys.argv[1])):
        print(value)


def make_keys(count: int) -> Iterator[str]:
    """Write keys as `lifecycle.create` would, many at once and without audit entries, and give their values.

    Every second one is of a consumer group.
    """
    from access import tokens
    from audit import clock
    from audit.actor import Actor
    from keys.groups import create_group

    now = clock.now()
    group = create_group(actor=Actor.system("bench"), slug="bench", name="bench")
    for numbers in batched(range(count), BATCH):
        values = [tokens.generate(tokens.TokenKind.GATEWAY_KEY) for _ in numbers]
        _write(values, numbers, now, group.pk)
        yield from values


def _write(values: Iterable[str], numbers: Iterable[int], now: datetime, group_id: int) -> None:
    from access import tokens
    from keys.models import GatewayKey, KeyVersion

    keys, versions = [], []
    for number, value in zip(numbers, values, strict=True):
        hint = tokens.hint(value)
        key = GatewayKey(
            name=f"bench-{number:07}",
            hint=hint,
            created_at=now,
            consumer_group_id=group_id if number % 2 else None,
        )
        keys.append(key)
        versions.append(KeyVersion(key=key, number=1, digest=tokens.digest(value), hint=hint, created_at=now))
    GatewayKey.objects.bulk_create(keys)
    KeyVersion.objects.bulk_create(versions)


if __name__ == "__main__":
    main()
