"""`manage.py find_leaked`, and the rules for scanners of other makers."""

from __future__ import annotations

import io
import re
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from access import tokens
from access.models import Member
from access.tokens import TokenKind
from audit.models import AuditEntry
from gateways.leaks import find_leaks
from keys import lifecycle
from keys.models import GatewayKey
from keys.status import KeyStatus
from tests.factories import TESTS, make_access_key, make_gateway, make_key
from tests.processes import ROOT

SCANNERS = ROOT / "deploy" / "scanners"
DESIGN = r"\bkt_(gk|gt|ak)_[a-z0-9]{32}\b"


def said(monkeypatch: pytest.MonkeyPatch, text: bytes, *options: str) -> tuple[int, list[list[str]], str]:
    """Return exit status, columns of each line, and all that the command has said of this text."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    output, status = io.StringIO(), 0
    try:
        call_command("find_leaked", *options, stdout=output)
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, [line.split("\t") for line in output.getvalue().splitlines()], output.getvalue()


@pytest.mark.django_db
def test_every_kind_of_value_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, admin: Member) -> None:
    key, gateway, access_key = make_key("checkout"), make_gateway("edge"), make_access_key(admin, name="ci")
    unknown = tokens.generate(TokenKind.GATEWAY_KEY)
    text = f"x={key.value}\n\xff\x00 {gateway.value}{access_key.value} {key.value} {unknown}"
    status, lines, output = said(monkeypatch, text.encode("latin-1"))
    assert status == 1
    assert sorted(lines) == sorted(
        [
            [
                "LETS IN",
                "gateway key",
                str(key.key.pk),
                tokens.hint(key.value),
                "active",
                "checkout",
                "version 1, current",
            ],
            ["LETS IN", "gateway token", str(gateway.gateway.pk), tokens.hint(gateway.value), "accepted", "edge", ""],
            [
                *(
                    "LETS IN",
                    "access key",
                    str(access_key.access_key.pk),
                    tokens.hint(access_key.value),
                    "active",
                    "ci",
                ),
                "of ada.admin",
            ],
        ]
    )
    for value in (key.value, gateway.value, access_key.value):
        assert value[10:20] not in output


@pytest.mark.django_db
def test_what_lets_nobody_in_any_more_is_named_and_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    rotated, revoked = make_key("rotated"), make_key("revoked")
    lifecycle.rotate(actor=TESTS, key_id=rotated.key.pk, grace=timedelta(0))
    lifecycle.revoke(actor=TESTS, key_id=revoked.key.pk)
    status, lines, _ = said(monkeypatch, f"{rotated.value} {revoked.value}".encode())
    assert status == 0
    assert [(line[0], line[4], line[6]) for line in lines] == [
        ("harmless", "active", "version 1, closed"),
        ("harmless", "revoked", "version 1, current"),
    ]


@pytest.mark.django_db
def test_a_disabled_key_is_an_alarm_for_it_may_be_enabled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    issued = make_key()
    lifecycle.disable(actor=TESTS, key_id=issued.key.pk)
    status, [line], _ = said(monkeypatch, issued.value.encode())
    assert (status, line[0], line[4]) == (1, "LETS IN", "disabled")


@pytest.mark.django_db
@pytest.mark.parametrize("text", [b"", b"kt_gk_", b"\x00" * 5000, b"kt_gk_" + b"a" * 32, "ключ".encode()])
def test_text_without_a_known_value_says_nothing(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    assert said(monkeypatch, text) == (0, [], "")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "write",
    [
        lambda value: f"before {value} after".encode(),
        lambda value: f"before {value} after".encode("utf-16"),
        lambda value: f"?key={value.replace('_', '%5F')}&x=y".encode(),
        lambda value: f"{value}{value}".encode(),
    ],
    ids=["ascii", "utf-16", "percent-encoded", "run together"],
)
def test_a_value_is_found_wherever_the_stream_is_cut(write: Any) -> None:
    issued = make_key()
    text = write(issued.value)
    for at in range(len(text) + 1):
        found = list(find_leaks([text[:at], text[at:]]))
        assert [leak.id for leak in found] == [issued.key.pk], at
    assert [leak.id for leak in find_leaks(bytes([byte]) for byte in text)] == [issued.key.pk]


@pytest.mark.django_db
def test_revoke_revokes_at_once_and_the_audit_log_says_why(monkeypatch: pytest.MonkeyPatch, admin: Member) -> None:
    key, gateway, access_key = make_key(), make_gateway(), make_access_key(admin)
    text = f"{key.value} {gateway.value} {access_key.value}".encode()
    status, lines, _ = said(monkeypatch, text, "--revoke", "--reason", "in a build log")
    assert status == 1
    assert {line[1]: line[-1] for line in lines} == {
        "gateway key": "revoked now",
        "gateway token": "not revoked: rotate this gateway's token, and give it the new one",
        "access key": "revoked now",
    }
    revoked = GatewayKey.objects.get(pk=key.key.pk)
    assert (revoked.status, revoked.revoke_reason) == (KeyStatus.REVOKED, "in a build log")
    entries = AuditEntry.objects.filter(actor_label="find_leaked command").values_list("action", flat=True)
    assert set(entries) == {"gateway_key.revoked", "access_key.revoked"}
    status, lines, _ = said(monkeypatch, text)
    assert [line[0] for line in lines if line[1] != "gateway token"] == ["harmless", "harmless"]


@pytest.mark.parametrize(("options", "words"), [(["--revoke"], "needs a --reason"), (["--reason", "x"], "goes with")])
def test_half_an_order_is_refused(options: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words) as refused:
        call_command("find_leaked", *options)
    assert refused.value.returncode == 2


@pytest.mark.once
@pytest.mark.parametrize("kind", TokenKind)
def test_the_rules_for_scanners_find_every_value_by_the_design(kind: TokenKind) -> None:
    [rule] = tomllib.loads((SCANNERS / "gitleaks.toml").read_text())["rules"]
    found = re.search(r"^ +value: '(.*)'$", (SCANNERS / "trufflehog.yaml").read_text(), re.MULTILINE)
    assert found
    assert rule["regex"] == found[1] == DESIGN
    assert set(rule["keywords"]) == {kind.value for kind in TokenKind}
    for _ in range(200):
        value = tokens.generate(kind)
        assert re.search(rule["regex"], f'KEY="{value}"')
        assert any(keyword in value for keyword in rule["keywords"])
    assert not re.search(rule["regex"], f"x{value} {value}x {value.upper()} {tokens.hint(value)}")


@pytest.mark.once
def test_security_md_names_what_there_is() -> None:
    text = (Path(ROOT) / "SECURITY.md").read_text()
    for place in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / place).exists(), place
