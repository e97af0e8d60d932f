from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import CommandError
from pytest_django import Settings

from access.models import Member
from keeptrusts import preparation


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.mark.django_db
def test_the_first_admin_can_sign_in_with_the_password_that_is_shown_once(said: list[str]) -> None:
    preparation.create_first_admin(said.append)
    found = re.search(r"Sign in as (\S+)\s+Password +(\S+)", "\n".join(said))
    assert found
    member = Member.objects.get(username=found[1])
    assert member.check_password(found[2])
    assert member.is_active
    assert member.role == "admin"
    said.clear()
    preparation.create_first_admin(said.append)
    assert said == []
    assert Member.objects.count() == 1


@pytest.mark.django_db
def test_a_password_that_was_given_is_used_and_not_shown(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEPTRUSTS_ADMIN_PASSWORD", "correct horse battery staple")
    preparation.create_first_admin(said.append)
    assert Member.objects.get().check_password("correct horse battery staple")
    assert "correct horse" not in "\n".join(said)


@pytest.mark.django_db
def test_a_password_may_be_given_as_a_file(said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse battery staple")
    monkeypatch.setenv("KEEPTRUSTS_ADMIN_PASSWORD_FILE", str(tmp_path / "password"))
    preparation.create_first_admin(said.append)
    assert Member.objects.get().check_password("correct horse battery staple")


@pytest.mark.django_db
def test_a_weak_password_is_refused_in_words(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEPTRUSTS_ADMIN_PASSWORD", "short")
    with pytest.raises(CommandError, match="too short"):
        preparation.create_first_admin(said.append)
    assert not Member.objects.exists()


@pytest.mark.once
def test_static_files_are_collected_again_only_when_one_has_changed(
    said: list[str], settings: Settings, tmp_path: Path
) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "a.css").write_text("a {}")
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STATICFILES_DIRS = [ours]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    preparation.collect_static(said.append)
    preparation.collect_static(said.append)
    assert said == ["Collecting static files…"]
    (ours / "a.css").write_text("a { color: red }")
    preparation.collect_static(said.append)
    assert len(said) == 2
    assert "red" in (tmp_path / "static" / "a.css").read_text()
