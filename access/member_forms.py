"""The parts of forms in which a password is chosen."""

from __future__ import annotations

from django import forms
from django.contrib.auth.password_validation import password_validators_help_texts, validate_password
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminPasswordWidget

from access.models import Member


def new_password(label: str = "New password") -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=1_000,
        help_text=" ".join(password_validators_help_texts()),
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )


def same_password(label: str = "New password, again") -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=1_000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )


def add_password_errors(form: forms.BaseForm, member: Member) -> None:
    """Add an error to `form` where the two passwords differ or are too weak for `member`."""
    password = form.cleaned_data.get("new_password")
    if password and password != form.cleaned_data.get("same_password"):
        form.add_error("same_password", ValidationError("The two passwords differ.", code="password_mismatch"))
    elif password:
        try:
            validate_password(password, member)
        except ValidationError as error:
            form.add_error("new_password", error)
