"""How long each page of the console takes on PostgreSQL with many keys and events, in the server.

Every page of PAGES is asked for in this process, by Django's test client, as the members it names: a few times to warm
up, then --repeat times. The time is that of the whole request (middleware, queries, templates), without a network; the
queries are counted as they reach the database, and the kilobytes are those of the answer before it is compressed.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from bench.load import say
from tests.servers import postgresql

KEYS: Final = "/admin/keys/gatewaykey/"
GROUPS: Final = "/admin/keys/consumergroup/"
GATEWAYS: Final = "/admin/gateways/gateway/"
EVENTS: Final = "/admin/usage/usageevent/"
HYGIENE: Final = "/admin/hygiene/"
AUDIT: Final = "/admin/audit/auditentry/"
MEMBERS: Final = "/admin/access/member/"
ACCESS_KEYS: Final = "/admin/access/accesskey/"
FORM: Final = "application/x-www-form-urlencoded"
ADMIN: Final = ("admin",)
BOTH: Final = ("admin", "manager")
# What the issue allows (docs/performance.md).
MOST_MS: Final = 150
MOST_QUERIES: Final = 12
# However slow a page is, it is measured no longer than this, seconds.
PATIENCE: Final = 15


class Page(NamedTuple):
    """A page to measure. path: with the names of `_facts` in braces. by: who asks for it.

    sent: what is posted to it, with these names too; only where that changes nothing. None: it is a GET.
    """

    name: str
    path: str
    by: tuple[str, ...] = BOTH
    sent: Mapping[str, str] | None = None


PAGES: Final = (
    Page("dashboard", "/admin/"),
    # --- keys ---
    Page("keys", KEYS),
    Page("keys, page 2", f"{KEYS}?p=2"),
    Page("keys, page 400", f"{KEYS}?p={{far}}"),
    *(Page(f"keys, {s}", f"{KEYS}?status={s}") for s in ("active", "rotating", "disabled", "expired", "revoked")),
    Page("keys, active or rotating", f"{KEYS}?status=active&status=rotating"),
    Page("keys, of a group", f"{KEYS}?consumer_group={{group}}"),
    Page("keys, active of a group", f"{KEYS}?consumer_group={{group}}&status=active"),
    Page("keys, expiring within 14 days", f"{KEYS}?expiring_within=14"),
    *(Page(f"keys, {a}", f"{KEYS}?attention={a}") for a in ("unused", "never_used", "no_expiry", "unscoped")),
    Page("keys, unused, active", f"{KEYS}?attention=unused&status=active&status=rotating"),
    # By the columns of the list, both ways; 0 is the box to tick.
    *(Page(f"keys, by {name}", f"{KEYS}?o={column}") for column, name in enumerate(
        ("name", "status", "group", "hint", "created", "expires", "last used", "requests 24 h"), 1)),
    *(Page(f"keys, by {name}, descending", f"{KEYS}?o=-{column}") for column, name in enumerate(
        ("name", "status", "group", "hint", "created", "expires", "last used", "requests 24 h"), 1)),
    Page("keys, last used, of a group", f"{KEYS}?o=-7&consumer_group={{group}}"),
    Page("keys, search: part of a name", f"{KEYS}?q=checkout-api-0001"),
    Page("keys, search: common word", f"{KEYS}?q=checkout"),
    Page("keys, search: two words", f"{KEYS}?q=prod+ledger"),
    Page("keys, search: word of the description", f"{KEYS}?q=nightly"),
    Page("keys, search: nothing", f"{KEYS}?q=xyzzyxyzzy"),
    Page("keys, search: one letter", f"{KEYS}?q=x"),
    Page("keys, search: hint", f"{KEYS}?q={{hint}}"),
    Page("keys, search: id", f"{KEYS}?q={{key}}"),
    Page("keys, search: start of an id", f"{KEYS}?q={{key_start}}"),
    Page("keys, create", f"{KEYS}add/"),
    Page("key, busy", f"{KEYS}{{key}}/change/"),
    Page("key, rotating", f"{KEYS}{{rotating}}/change/"),
    # What comes after the page of a key, and after that of one that is rotating.
    Page("key, denials", f"{KEYS}{{key}}/denials/"),
    Page("key, cut-over", f"{KEYS}{{rotating}}/cutover/"),
    Page("key, quiet", f"{KEYS}{{quiet}}/change/"),
    Page("key, revoked", f"{KEYS}{{revoked}}/change/"),
    # --- cleaning up: what needs attention, its lists, and what a fix of the first 1,000 would do ---
    Page("hygiene", HYGIENE),
    *(Page(f"hygiene, list of {a}", f"{KEYS}?attention={a}&status=active&status=rotating") for a in (
        "expiring_7", "expiring_30", "long_grace", "unused", "never_used", "breaches_policy", "no_expiry", "unscoped",
        "owner_left")),
    *(Page(f"hygiene, {f} of {a}", f"{HYGIENE}{f}/?concern={a}") for f, a in (
        ("set-expiry", "no_expiry"), ("disable", "unused"), ("revoke", "never_used"), ("end-grace", "long_grace"),
        ("scope", "unscoped"), ("owner", "owner_left"))),
    Page("hygiene, set-expiry of 1,000 sent", f"{HYGIENE}set-expiry/", sent={
        "step": "preview", "ids": "{thousand}", "days": "30"}),
    Page("keys, revoke of 1,000 selected", f"{KEYS}?p=1", sent={
        "action": "revoke_selected", "_selected_action": "{thousand}"}),
    # --- groups and gateways ---
    Page("groups", GROUPS),
    Page("groups, by live keys", f"{GROUPS}?o=-3"),
    Page("groups, search", f"{GROUPS}?q=team"),
    Page("group", f"{GROUPS}{{group}}/change/"),
    Page("gateways", GATEWAYS),
    Page("gateways, of a group", f"{GATEWAYS}?consumer_groups={{group}}"),
    Page("gateway", f"{GATEWAYS}{{gateway}}/change/"),
    # --- usage events ---
    Page("events", EVENTS),
    Page("events, page 50", f"{EVENTS}?p={{far_events}}"),
    Page("events, served", f"{EVENTS}?outcome__exact=served"),
    Page("events, denied", f"{EVENTS}?outcome__exact=denied"),
    *(Page(f"events, {r}", f"{EVENTS}?reason={r}") for r in ("key_unknown", "key_revoked", "group_mismatch")),
    Page("events, of a gateway", f"{EVENTS}?gateway={{gateway}}"),
    *(Page(f"events, status {s}", f"{EVENTS}?status_class={s}") for s in ("2", "3", "4", "5", "errors", "none")),
    Page("events, of a day", f"{EVENTS}?occurred_at_from={{day}}&occurred_at_to={{day}}"),
    Page("events, by status", f"{EVENTS}?o=6"),
    Page("events, by latency", f"{EVENTS}?o=-7"),
    Page("events, search: decision id", f"{EVENTS}?q={{decision}}"),
    Page("events, search: hint", f"{EVENTS}?q={{hint}}"),
    Page("events, search: key's id", f"{EVENTS}?q={{key}}"),
    Page("events, search: key's name", f"{EVENTS}?q={{key_name}}"),
    Page("events, search: part of names", f"{EVENTS}?q=ledger"),
    Page("events, search: nothing", f"{EVENTS}?q=xyzzyxyzzy"),
    Page("event", f"{EVENTS}{{event}}/change/"),
    # --- usage over longer windows ---
    *(
        Page(f"{kind}, {window}", f"{address}{{{fact}}}/change/?window={window}")
        for kind, address, fact in (("key", KEYS, "key"), ("group", GROUPS, "group"), ("gateway", GATEWAYS, "gateway"))
        for window in ("7d", "30d")
    ),
    Page("dashboard, attention", "/admin/attention/"),
    # --- finding a key, and why a request was refused ---
    Page("find a key", "/admin/find-a-key/"),
    Page("why refused", "/admin/why-refused/?window=30d"),
    Page("why refused, by reason", "/admin/why-refused/?window=30d&reason=key_unknown"),
    *(
        Page(f"why refused, search: {what}", f"/admin/why-refused/?window=30d&q={term}")
        for what, term in (
            ("decision id", "{refused_decision}"),
            ("key's id", "{refused_key}"),
            ("part of names", "ledger"),
            ("group", "team-001"),
            ("address", "10.1.2.7"),
            ("address without any", "203.0.113.7"),
            ("nothing", "xyzzyxyzzy"),
        )
    ),
    Page("why refused, one event", "/admin/why-refused/{refused}/"),
    # --- the audit log ---
    Page("audit", AUDIT),
    Page("audit, page 50", f"{AUDIT}?p={{far_entries}}"),
    Page("audit, keys revoked", f"{AUDIT}?action__exact=gateway_key.revoked"),
    Page("audit, rare action", f"{AUDIT}?action__exact=gateway.created"),
    *(Page(f"audit, by {k}", f"{AUDIT}?actor_kind={k}") for k in ("member", "system", "anonymous")),
    *(Page(f"audit, of {k}", f"{AUDIT}?object_type={k}") for k in ("gateway_key", "consumer_group", "access_key")),
    Page("audit, of a day", f"{AUDIT}?at_from={{day}}&at_to={{day}}"),
    *(Page(f"audit, by {name}", f"{AUDIT}?o={column}") for column, name in ((1, "time"), (2, "what"), (4, "who"))),
    Page("audit, search: key's id", f"{AUDIT}?q={{key}}"),
    Page("audit, search: key's name", f"{AUDIT}?q={{key_name}}"),
    Page("audit, search: part of names", f"{AUDIT}?q=ledger"),
    Page("audit, search: actor", f"{AUDIT}?q=load-manager-7"),
    Page("audit, search: nothing", f"{AUDIT}?q=xyzzyxyzzy"),
    Page("audit entry", f"{AUDIT}{{entry}}/change/"),
    # --- reports ---
    Page("report: access review", "/admin/reports/access-review/"),
    Page("report: access review, of a group", "/admin/reports/access-review/?consumer_group={slug}"),
    Page("report: rotation compliance", "/admin/reports/rotation-compliance/"),
    # --- the team ---
    Page("members", MEMBERS, ADMIN),
    Page("members, search", f"{MEMBERS}?q=manager", ADMIN),
    Page("member", f"{MEMBERS}{{member}}/change/", ADMIN),
    Page("access keys", ACCESS_KEYS),
    Page("access key, create", f"{ACCESS_KEYS}add/"),
    # --- policy ---
    Page("policy", "/admin/policy/"),
    Page("policy, what a lifetime of 30 days would break", "/admin/policy/", ADMIN, sent={
        "max_lifetime_days": "30", "default_lifetime_days": "30"}),
    # --- webhooks ---
    Page("webhook endpoints", "/admin/webhooks/webhookendpoint/", ADMIN),
    Page("webhook deliveries", "/admin/webhooks/delivery/", ADMIN),
    # --- the API, with its exact count ---
    Page("API: keys", "/api/v1/gateway-keys/"),
    Page("API: keys, page 400", "/api/v1/gateway-keys/?page={far}"),
    Page("API: keys, active", "/api/v1/gateway-keys/?status=active"),
    Page("API: keys, search", "/api/v1/gateway-keys/?search=checkout"),
    Page("API: keys, by last use", "/api/v1/gateway-keys/?ordering=-last_used_at"),
    Page("API: groups", "/api/v1/consumer-groups/"),
    Page("API: events", "/api/v1/usage-events/"),
    Page("API: audit entries", "/api/v1/audit-entries/"),
    # --- the same by cursor, which counts nothing ---
    Page("API: keys, by cursor", "/api/v1/gateway-keys/?cursor="),
    Page("API: events, by cursor", "/api/v1/usage-events/?cursor="),
    Page("API: audit entries, by cursor", "/api/v1/audit-entries/?cursor="),
    Page("API: members", "/api/v1/members/", ADMIN),
    Page("API: access keys", "/api/v1/access-keys/"),
    Page("API: webhook endpoints", "/api/v1/webhook-endpoints/", ADMIN),
    Page("API: access review", "/api/v1/reports/access-review/"),
    Page("API: rotation compliance", "/api/v1/reports/rotation-compliance/"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark can be told."""
    parser.add_argument("--keys", type=int, default=200_000, help="gateway keys (200000)")
    parser.add_argument("--events", type=int, default=5_000_000, help="usage events (5000000)")
    parser.add_argument("--repeat", type=int, default=20, help="how often each page is measured (20)")
    parser.add_argument("--only", default="", help="only pages with this in their names")
    parser.add_argument(
        "--database", default="", help="DATABASE_URL of one that is loaded already, instead of a new one"
    )


def run(options: argparse.Namespace) -> dict[str, object]:
    """Load a private PostgreSQL and measure every page; return a row for each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keeptrusts-bench-")))
        url = options.database or stack.enter_context(postgresql())
        _set_up(url, folder)
        if not options.database:
            _load(options.keys, options.events)
        return {"keys": options.keys, "events": options.events, "pages": list(_rows(options.repeat, options.only))}


def show(figures: Mapping[str, Any]) -> None:
    """Print the rows as a table; ! marks what is above what the issue allows."""
    print(f"{'page':<52} {'median ms':>10} {'p95 ms':>10} {'queries':>8} {'kilobytes':>10}")
    for row in figures["pages"]:
        above = row["median_ms"] > MOST_MS or row["queries"] > MOST_QUERIES
        print(
            f"{row['page']:<52} {row['median_ms']:>10,.1f} {row['p95_ms']:>10,.1f} {row['queries']:>8} "
            f"{row['kilobytes']:>10,.1f}{' !' if above else ''}"
        )


def _set_up(url: str, folder: Path) -> None:
    os.environ |= {
        "DATABASE_URL": url,
        "KEEPTRUSTS_SECRET_KEY": secrets.token_hex(32),
        "KEEPTRUSTS_DATA_DIR": str(folder),
        "KEEPTRUSTS_LOG_LEVEL": "ERROR",
        # Its Admin signs in by a password alone.
        "KEEPTRUSTS_REQUIRE_MFA": "none",
        "DJANGO_SETTINGS_MODULE": "keeptrusts.settings",
    }
    import django

    django.setup()
    from keeptrusts.preparation import collect_static

    collect_static(say)


def _load(keys: int, events: int) -> None:
    from django.core.management import call_command

    from keeptrusts.load_data import Size, load

    started = time.monotonic()
    call_command("migrate", verbosity=0)
    load(say, Size(keys=keys, events=events))
    say(f"Loaded in {time.monotonic() - started:,.0f} s.")


def _rows(repeat: int, only: str) -> Iterator[dict[str, object]]:
    from django.test import Client

    from access.models import Member

    clients, facts = {}, {}
    for role in BOTH:
        member = Member.objects.get(username=f"load-{role}-1")
        clients[role] = Client(HTTP_HOST="localhost")
        clients[role].force_login(member, backend="django.contrib.auth.backends.ModelBackend")
        facts[role] = _facts(member)
    for page in PAGES:
        for role in page.by:
            name = f"{page.name} ({role})"
            if only not in name:
                continue
            path, sent = page.path.format(**facts[role]), _filled(page.sent, facts[role])
            row = {"page": name, **_measured(clients[role], path, repeat, sent)}
            say(f"{name}: {row['median_ms']} ms, {row['queries']} queries")
            yield row


def _facts(member: Any) -> dict[str, str]:
    """Return what the paths name, of what this member sees."""
    from audit.models import AuditEntry
    from gateways.models import Gateway
    from keys.models import GatewayKey
    from keys.status import KeyStatus
    from usage.models import UsageEvent

    def some(rows: Any) -> Any:
        """Return the first row; a load that is large enough has one."""
        row = rows.first()
        if row is None:
            raise RuntimeError(f"The load is too small: there is no {rows.model._meta.verbose_name} to look at.")
        return row

    keys = member.visible(GatewayKey.objects.filter(consumer_group__isnull=False))
    active = keys.in_status(KeyStatus.ACTIVE)
    busy = some(active.filter(metrics__isnull=False).order_by("-metrics__requests_24h"))
    event = some(UsageEvent.objects.filter(key=busy).order_by("-occurred_at"))
    denied = member.visible(UsageEvent.objects.filter(key__isnull=False, reason="key_revoked"))
    refused = some(denied.order_by("-occurred_at"))
    return {
        "key": str(busy.pk),
        "key_start": str(busy.pk)[:8],
        "key_name": busy.name,
        "hint": quote(busy.hint),
        "rotating": str(some(keys.in_status(KeyStatus.ROTATING).order_by("pk")).pk),
        "quiet": str(some(active.filter(metrics__isnull=True).order_by("pk")).pk),
        "revoked": str(some(keys.in_status(KeyStatus.REVOKED).order_by("pk")).pk),
        "group": str(busy.consumer_group_id),
        "slug": busy.consumer_group.slug if busy.consumer_group else "",
        "gateway": str(some(Gateway.objects.order_by("name")).pk),
        "event": str(event.pk),
        "decision": event.decision_id,
        "refused": str(refused.pk),
        "refused_key": str(refused.key_id),
        "refused_decision": refused.decision_id,
        "entry": str(some(AuditEntry.objects.filter(object_id=str(busy.pk)).order_by("-id")).pk),
        "member": str(member.pk),
        # Where there are fewer pages, the last ones.
        "far": str(_page(keys.count(), 50, 400)),
        "far_events": str(_page(member.visible(UsageEvent.objects.all())[:2_500].count(), 50, 50)),
        "far_entries": str(_page(member.visible(AuditEntry.objects.all())[:2_500].count(), 50, 50)),
        "thousand": ",".join(str(pk) for pk in active.order_by("pk").values_list("pk", flat=True)[:1_000]),
        "day": f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}",
    }


def _page(count: int, size: int, most: int) -> int:
    return max(1, min(count // size, most))


def _filled(sent: Mapping[str, str] | None, facts: Mapping[str, str]) -> str | None:
    """Return what a page is sent, as a browser writes it; the rows that are ticked in a list are one value each."""
    if sent is None:
        return None
    filled = {name: value.format(**facts) for name, value in sent.items()}
    fields = {name: value.split(",") if name == "_selected_action" else [value] for name, value in filled.items()}
    return urlencode(fields, doseq=True)


def _measured(client: Any, path: str, repeat: int, sent: str | None = None) -> dict[str, object]:
    times, queries, size, ends = [], 0, 0, time.monotonic() + PATIENCE
    for number in range(repeat + 2):
        with _counted() as counter:
            started = time.perf_counter()
            response = client.get(path) if sent is None else client.post(path, sent, FORM)
            content = response.getvalue()
            took = (time.perf_counter() - started) * 1_000
        if response.status_code != 200:
            raise RuntimeError(f"{path} answered {response.status_code}")
        # The first ones only warm up, unless there is no time for more.
        late = time.monotonic() > ends
        if number >= 2 or late:
            times.append(took)
            queries, size = max(queries, counter[0]), len(content)
        if late:
            break
    return {
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(sorted(times)[max(0, round(len(times) * 0.95) - 1)], 1),
        "queries": queries,
        "kilobytes": round(size / 1_000, 1),
    }


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Count the queries of the block."""
    from django.db import connection

    counter = [0]

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        counter[0] += 1
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        yield counter
