from __future__ import annotations

# They register themselves.
from access import (  # noqa: F401
    access_key_admin,
    account_pages,
    member_admin,
    oidc_pages,
    preferences,
    sign_in_pages,
)
