"""Believable data: a company of six teams, its gateways and keys, and a month of what happened to them.

Everything is done by the verbs that people use, one after the other in time, with the clock standing at each moment:
the audit log, the versions and the figures are what they would be if it had really happened.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from random import Random
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from access.access_keys import create_access_key, revoke_access_key
from access.actors import member_actor
from access.members import create_member, edit_member, take_out
from access.models import Member
from access.refusals import Forbidden, record_refusal
from access.rules import Role
from access.unset import UNSET, Unset
from audit import clock
from audit.actor import Actor
from audit.sealing import seal
from gateways.models import Gateway, UsageSource
from gateways.registry import create_gateway, rotate_token
from keeptrusts.demo_notices import plan_notices
from keeptrusts.demo_traffic import Traffic
from keys import lifecycle, sweeps
from keys.groups import create_group, edit_group
from keys.models import ConsumerGroup, GatewayKey
from keys.policy_impact import ExistingKeys
from keys.status import KeyStatus
from usage.rollup import roll_up

HISTORY: Final = timedelta(days=400)
USAGE: Final = timedelta(days=30)
DAY: Final = timedelta(days=1)

MEMBERS: Final = (
    ("maria.santos", "Maria Santos", Role.MANAGER),
    ("tom.becker", "Tom Becker", Role.MANAGER),
    ("priya.nair", "Priya Nair", Role.MANAGER),
    ("dana.okafor", "Dana Okafor", Role.AUDITOR),
)
# Who left the company, and the keys, still in use, that nobody has answered for since.
LEFT: Final = ("lukas.meyer", "Lukas Meyer", Role.MANAGER)
ORPHANED: Final = frozenset({"churn-model", "notebook-jonas", "search-suggest"})
GROUPS: Final[dict[str, tuple[str, str, str | None, dict[str, Any]]]] = {
    # slug: name, description, who manages it, policy
    "payments": (
        "Payments",
        "Checkout and refunds. In scope for PCI DSS: short-lived keys from our own networks.",
        "maria.santos",
        {
            "default_lifetime_days": 30,
            "max_lifetime_days": 90,
            "expiry_required": True,
            "max_grace_seconds": 86_400,
            "allowed_networks": ["10.20.0.0/16", "2001:db8:20::/48"],
        },
    ),
    "chatbots": (
        "Customer chatbots",
        "Everything that talks to customers in the shop and the app.",
        "maria.santos",
        {"default_lifetime_days": 90, "max_lifetime_days": 180},
    ),
    "search": ("Search", "Embeddings and re-ranking for the shop's search.", "tom.becker", {}),
    "data-science": (
        "Data science",
        "Notebooks and experiments; keys that nobody uses are cleaned up.",
        "priya.nair",
        {"default_lifetime_days": 60, "idle_days": 45},
    ),
    "mobile": ("Mobile apps", "Back ends of the iOS and Android apps.", None, {"default_lifetime_days": 90}),
    "internal-tools": ("Internal tools", "Helpdesk, wiki search, code review.", None, {"default_lifetime_days": 180}),
}
# One line for each of 60 keys: name, group, what becomes of it.
KEYS: Final = (
    *((f"prod-{name}", "payments", "steady") for name in ("checkout", "refunds", "fraud-check", "invoices")),
    ("prod-payouts", "payments", "rotating"),
    ("staging-checkout", "payments", "expiring"),
    ("load-test-checkout", "payments", "expired"),
    ("old-refunds-batch", "payments", "revoked"),
    ("fraud-check-canary", "payments", "disabled"),
    ("pentest-2026", "payments", "leaked"),
    *((f"prod-chatbot-{where}", "chatbots", "llm") for where in ("east", "west", "eu")),
    ("prod-order-status-bot", "chatbots", "llm-rotating"),
    ("staging-chatbot", "chatbots", "llm"),
    ("chatbot-eval-nightly", "chatbots", "llm"),
    ("returns-assistant", "chatbots", "llm"),
    ("chatbot-hackathon", "chatbots", "revoked"),
    ("voice-bot-pilot", "chatbots", "disabled"),
    ("chatbot-legacy", "chatbots", "expired"),
    ("summer-campaign-bot", "chatbots", "expired"),
    ("prod-embeddings", "search", "llm"),
    ("prod-reranker", "search", "steady"),
    ("search-indexer", "search", "steady"),
    ("search-suggest", "search", "rotating"),
    ("staging-search", "search", "steady"),
    ("search-ab-test", "search", "unused"),
    ("search-crawler", "search", "endless"),
    ("search-v1", "search", "revoked"),
    ("notebook-anna", "data-science", "llm"),
    ("notebook-jonas", "data-science", "llm"),
    ("notebook-mei", "data-science", "unused"),
    ("churn-model", "data-science", "steady"),
    ("forecast-nightly", "data-science", "steady"),
    ("gpu-batch-scoring", "data-science", "expiring"),
    ("prompt-experiments", "data-science", "idle"),
    ("kaggle-night", "data-science", "idle"),
    ("feature-store", "data-science", "rotating"),
    ("thesis-lukas", "data-science", "expired"),
    *((f"{system}-app-{stage}", "mobile", "steady") for system in ("ios", "android") for stage in ("prod", "beta")),
    ("push-service", "mobile", "lingering"),
    ("image-recognition", "mobile", "llm"),
    ("android-legacy-v3", "mobile", "disabled"),
    ("ios-testflight-2025", "mobile", "revoked"),
    ("app-review-sandbox", "mobile", "never"),
    ("helpdesk-triage", "internal-tools", "llm"),
    ("wiki-answers", "internal-tools", "llm-rotating"),
    ("code-review-bot", "internal-tools", "llm"),
    ("meeting-notes", "internal-tools", "endless"),
    ("hr-onboarding", "internal-tools", "never"),
    ("expense-scanner", "internal-tools", "expiring"),
    ("intranet-translate", "internal-tools", "unused"),
    ("office-display", "internal-tools", "leaked"),
    ("sales-demo", "internal-tools", "expired"),
    ("platform-smoke-tests", None, "endless"),
    ("on-call-debugging", None, "never"),
    ("synthetic-monitoring", None, "steady"),
)
REASONS: Final = (
    "Replaced by the key of the new service.",
    "The project has ended.",
    "Found in a public repository.",
    "The owner has left the team.",
)


@dataclass(slots=True)
class Company:
    """The demo in the making. events: what is still to happen, by time; made from one random seed."""

    now: datetime
    admin: Member
    random: Random = field(default_factory=lambda: Random(20_26))  # noqa: S311  # a story, no secret
    members: dict[str, Member] = field(default_factory=dict)
    groups: dict[str, ConsumerGroup] = field(default_factory=dict)
    gateways: dict[str, Gateway] = field(default_factory=dict)
    keys: dict[UUID, str] = field(default_factory=dict)
    events: list[tuple[datetime, int, Callable[[], object]]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def later(self, at: datetime, happens: Callable[[], object]) -> None:
        """Let it happen at `at`; what would lie in the future does not."""
        if at <= self.now:
            heapq.heappush(self.events, (at, next(self.numbers), happens))

    def ago(self, days: float) -> datetime:
        """A moment so many days ago, in somebody's working hours."""
        day = (self.now - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
        moment = day + timedelta(seconds=self.random.randint(8 * 3_600, 18 * 3_600))
        return min(moment, self.now - timedelta(minutes=self.random.randint(5, 90)))

    def someone(self, group: str | None) -> Actor:
        """Who would do it: mostly the group's manager, else the Admin."""
        manager = GROUPS[group][2] if group else None
        if manager and self.random.random() < 0.8:
            member, ip = self.members[manager], f"10.8.{len(manager)}.{self.random.randint(10, 60)}"
        else:
            member, ip = self.admin, "10.8.0.12"
        return member_actor(member, credential="session", ip=ip)


def seed(say: Callable[[str], None]) -> dict[str, str]:
    """Fill an installation that has no keys yet; returns the passwords of the members it added, by username.

    Errors: ValueError where there are keys already, or no Admin.
    """
    if GatewayKey.objects.exists():
        raise ValueError("There are gateway keys already: demonstration data goes only into an empty installation.")
    admin = Member.objects.active().filter(role=Role.ADMIN).order_by("pk").first()
    if admin is None:
        raise ValueError("There is no Admin yet: create one first (manage.py create_member NAME --role admin).")
    company = Company(now=clock.now(), admin=admin)
    with transaction.atomic():
        say("A company of six teams and a year of its keys…")
        passwords = _found(company)
        _plan_keys(company)
        _plan_daily_life(company)
        plan_notices(company)
        while company.events:
            at, _, happens = heapq.heappop(company.events)
            with clock.standing_at(at):
                happens()
        say("Thirty days of its traffic…")
        Traffic(company.now, company.random, company.gateways).pour(company.keys)
    roll_up()
    seal()
    return passwords


def _found(company: Company) -> dict[str, str]:
    admin = member_actor(company.admin, credential="session", ip="10.8.0.12")
    passwords = {}
    with clock.standing_at(company.now - HISTORY):
        for username, name, role in (*MEMBERS, LEFT):
            passwords[username] = secrets.token_urlsafe(12)
            company.members[username] = create_member(
                actor=admin,
                username=username,
                password=passwords[username],
                role=role,
                name=name,
                email=f"{username}@example.com",
            )
        for slug, (name, description, manager, policy) in GROUPS.items():
            managers = [company.members[manager]] if manager else []
            company.groups[slug] = create_group(
                actor=admin, name=name, slug=slug, description=description, managers=managers
            )
            company.later(
                company.ago(300),
                partial(
                    edit_group,
                    actor=admin,
                    group_id=company.groups[slug].pk,
                    changed=policy,
                    existing_keys=ExistingKeys.LEAVE.value,
                ),
            )
        # Lately made stricter; the keys of before are left as they are, and break it.
        company.later(
            company.now - 6 * DAY,
            partial(
                edit_group,
                actor=admin,
                group_id=company.groups["mobile"].pk,
                changed={"default_lifetime_days": 30, "max_lifetime_days": 45},
                existing_keys=ExistingKeys.LEAVE.value,
            ),
        )
        llm = [company.groups[slug] for slug in ("chatbots", "search", "data-science", "mobile", "internal-tools")]
        for name, particulars in (
            ("edge-frankfurt", {}),
            ("edge-virginia", {}),
            ("llm-gateway", {"usage_source": UsageSource.REPORT, "consumer_groups": llm}),
        ):
            issued = create_gateway(actor=admin, name=name, **particulars)
            company.gateways[name] = issued.gateway
    left = company.members[LEFT[0]]
    company.later(company.now - 9 * DAY, partial(take_out, actor=admin, member_id=left.pk))
    del passwords[left.username]
    return passwords


def _plan_keys(company: Company) -> None:
    for name, group, fate in KEYS:
        age = company.random.uniform(35, 290)
        match fate:
            case "never":
                age = company.random.uniform(3, 12)
            case "expired":
                age = company.random.uniform(100, 280)
            case "idle":
                age = company.random.uniform(60, 100)
        company.later(company.ago(age), _Create(company, name, group, fate))


@dataclass(frozen=True, slots=True)
class _Create:
    """Create one key when its time has come, and plan the rest of its life."""

    company: Company
    name: str
    group: str | None
    fate: str

    def __call__(self) -> None:
        company, now = self.company, clock.now()
        actor = company.someone(self.group)
        group = company.groups[self.group] if self.group else None
        if group is not None:
            group.refresh_from_db()
        key = lifecycle.create(
            actor=actor,
            name=self.name,
            consumer_group=group,
            expires_at=self._expiry(now),
            description=f"Requested by {self.group or 'the platform team'}.",
            allowed_networks=["10.20.4.0/24"] if self.name == "prod-checkout" else (),
            owner=company.members[LEFT[0]] if self.name in ORPHANED else UNSET,
        ).key
        company.keys[key.id] = self.fate
        if key.expires_at is not None:
            company.later(key.expires_at + timedelta(seconds=10), sweeps.expire_due)
        self._plan(key, now)

    def _expiry(self, now: datetime) -> datetime | Unset | None:
        """The policy's own proposal, or one that brings the key where its fate wants it by today."""
        today = self.company.now
        match self.fate:
            case "endless":
                return None
            case "expired":
                most = 80 if self.group == "payments" else 150
                return min(now + timedelta(days=most), today - timedelta(days=self.company.random.uniform(2, 20)))
            case "never":
                return today + timedelta(days=25)
            case _:
                return UNSET if self.group else None

    def _plan(self, key: GatewayKey, now: datetime) -> None:
        company = self.company
        end = self._plan_end(key)
        lifetime, at = key.lifetime or timedelta(days=100), now
        # Whoever looks after a key renews it in time, for as long as it is in use.
        while self.fate not in {"expired", "idle", "never"} and at + lifetime * 0.9 < end:
            at += lifetime * company.random.uniform(0.75, 0.89)
            company.later(at, lambda: self._rotate(key.id))
        if self.fate in {"rotating", "llm-rotating"}:
            hours = company.random.uniform(2, 20)
            company.later(company.now - timedelta(hours=hours), lambda: self._rotate(key.id))
        if self.fate == "lingering":
            # Its new value was forgotten in a drawer; so that nothing breaks, the old one was given a month.
            company.later(company.now - 11 * DAY, lambda: self._rotate(key.id, grace=30 * DAY))

    def _plan_end(self, key: GatewayKey) -> datetime:
        """Plan what ends the key or nears its end, and return when; today where nothing does."""
        company = self.company
        match self.fate:
            case "expiring":
                soon = company.now + timedelta(days=company.random.uniform(1, 6.5))
                at = company.ago(8)
                company.later(at, lambda: self._do(lifecycle.edit, key.id, changed={"expires_at": soon}))
            case "disabled":
                at = company.ago(company.random.uniform(2, 9))
                company.later(at, lambda: self._do(lifecycle.disable, key.id))
            case "revoked" | "leaked":
                reason = REASONS[2] if self.fate == "leaked" else company.random.choice(REASONS)
                at = company.ago(
                    company.random.uniform(1, 4) if self.fate == "leaked" else company.random.uniform(5, 25)
                )
                company.later(at, lambda: self._do(lifecycle.revoke, key.id, reason=reason))
            case "idle":
                at = company.ago(company.random.uniform(8, 14))
                # What the sweep does, which could not see yet that the group's other keys were in use.
                reason = "Unused for 45 days, the limit that Data science sets."
                idle = Actor.system("idle keys")
                company.later(at, lambda: lifecycle.revoke(actor=idle, key_id=key.id, reason=reason))
            case _:
                at = company.now
        return at

    def _rotate(self, key_id: UUID, grace: timedelta | None = None) -> None:
        self._do(lifecycle.rotate, key_id, grace=grace)
        # The job that closes grace periods, on time.
        self.company.later(clock.now() + (grace or DAY) + timedelta(seconds=10), sweeps.close_due_grace)

    def _do(self, verb: Callable[..., object], key_id: UUID, **arguments: object) -> None:
        verb(actor=self.company.someone(self.group), key_id=key_id, **arguments)


def _plan_daily_life(company: Company) -> None:
    """Access keys, an attempt that was refused, a token rotated: what else an audit log of a month holds."""
    admin = member_actor(company.admin, credential="session", ip="10.8.0.12")
    for username, name, days in (("tom.becker", "github-actions", 90), ("priya.nair", "terraform", 40)):
        owner, made = company.members[username], company.ago(days)
        create = partial(create_access_key, owner=owner, name=name, expires_at=made + timedelta(days=120))
        company.later(made, partial(create, actor=member_actor(owner, credential="session", ip="10.8.4.20")))
    old = company.members["maria.santos"]
    company.later(company.ago(200), lambda: _short_lived_access_key(company, old))
    company.later(company.ago(6), lambda: _refused(company))
    gateway = company.gateways["edge-virginia"]
    company.later(company.ago(12), lambda: rotate_token(actor=admin, gateway_id=gateway.id))
    company.later(
        company.ago(45),
        lambda: edit_member(
            actor=admin, member_id=company.members["dana.okafor"].pk, changed={"name": "Dana Okafor (external audit)"}
        ),
    )


def _short_lived_access_key(company: Company, owner: Member) -> None:
    actor = member_actor(owner, credential="session", ip="10.8.4.21")
    key = create_access_key(actor=actor, owner=owner, name="migration-script").access_key
    company.later(clock.now() + 3 * DAY, lambda: revoke_access_key(actor=actor, access_key_id=key.id))


def _refused(company: Company) -> None:
    """The auditor tries the button that is not theirs."""
    auditor = member_actor(company.members["dana.okafor"], credential="session", ip="10.8.9.3")
    key = GatewayKey.objects.in_status(KeyStatus.ACTIVE).order_by("name").first()
    if key is not None:
        try:
            lifecycle.revoke(actor=auditor, key_id=key.id)
        except Forbidden as refusal:
            record_refusal(auditor, refusal)
