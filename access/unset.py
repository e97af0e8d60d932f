"""For arguments of which None says something, and leaving them out something else."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Unset(Enum):
    """Stands for "not said"."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
