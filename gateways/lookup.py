"""What the database knows of a gateway token and a key value: one question, asked anew for every decision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

import orjson
from django.db import connection

from gateways.addresses import Networks, parse_networks
from gateways.decision import KnownGateway, KnownGroup, KnownKey, KnownVersion
from gateways.models import ClientAddress, UsageSource
from usage.raw import identity, instant
from usage.threads import surviving_restart

# One row, or one for each group that the gateway is limited to. By hand, because it stands in every request's way:
# the ORM takes longer to write this than the database to answer it.
_SQL: Final = """
SELECT g.id, g.usage_source, g.require_group, g.client_address, t.valid_until, p.allowed_networks,
       v.id, v.number, v.created_at, v.valid_until, v.closed_at,
       k.id, k.expires_at, k.disabled_at, k.revoked_at, k.allowed_networks,
       c.id, c.slug, c.allowed_networks,
       s.slug
FROM gateways_gatewaytoken t
JOIN gateways_gateway g ON g.id = t.gateway_id
LEFT JOIN keys_installationpolicy p ON p.id = 1
LEFT JOIN keys_keyversion v ON v.digest = %s
LEFT JOIN keys_gatewaykey k ON k.id = v.key_id
LEFT JOIN keys_consumergroup c ON c.id = k.consumer_group_id
LEFT JOIN gateways_gateway_consumer_groups l ON l.gateway_id = g.id
LEFT JOIN keys_consumergroup s ON s.id = l.consumergroup_id
WHERE t.digest = %s
"""
_GATEWAY, _VERSION, _KEY, _GROUP, _SERVED = slice(0, 6), slice(6, 11), slice(11, 16), slice(16, 19), 19

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

type Row = Sequence[Any]


class Found(NamedTuple):
    """gateway: None where no gateway has this token; version: None where no key has this value."""

    gateway: KnownGateway | None
    version: KnownVersion | None


def look_up(gateway_token: bytes, key: bytes | None) -> Found:
    """Return what is known now of the two, by their digests. key: None = only the gateway is asked for.

    Survives a restart of the database. Errors: DatabaseError where it cannot be asked.
    """
    return found_in(surviving_restart(lambda: _rows(gateway_token, key)), key_asked=key is not None)


def found_in(rows: list[Row], *, key_asked: bool) -> Found:
    """Return what the rows of one answer say."""
    if not rows:
        return Found(None, None)
    first = rows[0]
    slugs = frozenset(row[_SERVED] for row in rows if row[_SERVED] is not None)
    version = _version(first) if key_asked and first[_VERSION.start] is not None else None
    return Found(_gateway(first[_GATEWAY], slugs), version)


def _rows(gateway_token: bytes, key: bytes | None) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(_SQL, [key, gateway_token])
        return cast(list[Row], cursor.fetchall())


def _gateway(columns: Row, slugs: frozenset[str]) -> KnownGateway:
    id_, usage_source, require_group, client_address, token_valid_until, networks = columns
    return KnownGateway(
        id=identity(id_),
        counts_at_authorize=usage_source == UsageSource.AUTHORIZE,
        require_group=bool(require_group),
        address_forwarded=client_address == ClientAddress.FORWARDED,
        group_slugs=slugs,
        token_valid_until=instant(token_valid_until),
        networks=_networks(networks) if networks is not None else (),
    )


def _version(row: Row) -> KnownVersion:
    id_, number, created_at, valid_until, closed_at = row[_VERSION]
    return KnownVersion(
        id=id_,
        number=number,
        created_at=cast(datetime, instant(created_at)),
        # A version that was closed is so whatever this host takes for the time: its reading may be a moment behind.
        valid_until=instant(valid_until) if closed_at is None else LONG_AGO,
        key=_key(row[_KEY], _group(row[_GROUP])),
    )


def _key(columns: Row, group: KnownGroup | None) -> KnownKey:
    id_, expires_at, disabled_at, revoked_at, networks = columns
    return KnownKey(
        public_id=str(identity(id_)).encode(),
        group=group,
        networks=_networks(networks),
        expires_at=instant(expires_at),
        disabled_at=instant(disabled_at),
        revoked_at=instant(revoked_at),
    )


def _group(columns: Row) -> KnownGroup | None:
    id_, slug, networks = columns
    return KnownGroup(id=id_, slug=slug, networks=_networks(networks)) if id_ is not None else None


@lru_cache(maxsize=4_096)
def _networks(text: str) -> Networks:
    """Return the networks of a JSON column. What is none is an error: nothing is let through by a policy unread."""
    return parse_networks(orjson.loads(text))
