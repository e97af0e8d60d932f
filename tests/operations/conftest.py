from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.operations.asking import Watcher, watching


@pytest.fixture
def watcher(transactional_db: None) -> Iterator[Watcher]:
    """Its threads have connections of their own, which see what is committed."""
    with watching() as watcher:
        yield watcher
