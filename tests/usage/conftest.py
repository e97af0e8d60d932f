"""A running data plane for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.plane import Plane, running_plane


@pytest.fixture
def plane(transactional_db: None) -> Iterator[Plane]:
    """A data plane beside the test; its threads see what the test has committed."""
    with running_plane() as plane:
        yield plane
