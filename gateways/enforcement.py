"""When a change is in force: after each process has applied it, or may not use what it holds any more."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

import redis
from django.conf import settings
from django.dispatch import receiver

from audit import clock
from gateways import processes
from gateways.announcements import Announcement
from keys.narrowing import Narrowing, narrowed

logger = logging.getLogger(__name__)

# Seconds between two looks into the registry.
LOOK_EVERY: Final = 0.04
# Seconds, the longest that can be set: what the registry says beyond it, a clock that was set back has made up.
LONGEST_LEASE: Final[float] = settings.KEEPTRUSTS_LONGEST_LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class InForceOn:
    """Which processes decide by a change when its verb returns. milliseconds: from commit until the last one did.

    processes: how many held a lease; None where the database could not be asked, and the longest lease was waited for.
    applied: how many have said that they decide by it; the leases of the others have run out.
    """

    processes: int | None
    applied: int
    milliseconds: float

    @property
    def words(self) -> str:
        """A piece of a sentence; "" where no process runs."""
        span = f"{self.milliseconds:.0f} ms" if self.milliseconds < 1_000 else f"{self.milliseconds / 1_000:.1f} s"
        if self.processes is None:
            return f"everywhere after {span}, for the database went away meanwhile"
        if not self.processes:
            return ""
        words = f"on {self.applied} of {self.processes} gateway processes in {span}"
        return words if self.applied == self.processes else f"{words}; what the others held is void"

    def as_header(self) -> str:
        """The same for machines: a dictionary of RFC 9651; without `processes` where the database went away."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items() if value is not None)


@receiver(narrowed)
def bring_into_force(change: Narrowing, **_: Any) -> InForceOn | None:
    """Return when no process decides by what was before the change, which is committed."""
    started = clock.elapsed()
    try:
        announcement = _announce(change)
        if not change.waits:
            return None
        return _await(change, announcement, started)
    except Exception:
        logger.exception("Nobody can tell which gateway processes know of a change: every lease is waited for.")
        if not change.waits:
            return None
        # Whatever was granted before the change was committed ends within this; what is granted later knows of it.
        time.sleep(max(0.0, started + settings.KEEPTRUSTS_LEASE_SECONDS - clock.elapsed()))
        return InForceOn(None, 0, _since(started))


def _announce(change: Narrowing) -> Announcement | None:
    if not settings.REDIS_URL or not change.facts:
        return None
    try:
        return Announcement(change.facts)
    except redis.RedisError as error:
        logger.warning("A change cannot be announced (%s): its rows are read with each renewal.", type(error).__name__)
        return None


def _await(change: Narrowing, announcement: Announcement | None, started: float) -> InForceOn:
    at_first, looked = processes.standing(change.transactions), clock.elapsed()
    # The leases of this moment are the ones to wait for: whoever is granted one later reads the change before using it.
    ends = {id_: looked + min(one.seconds, LONGEST_LEASE) for id_, one in at_first.items() if not one.applied}
    applied = len(at_first) - len(ends)
    while ends:
        answered, announcement = _next_answer(announcement)
        known = {answered} & ends.keys()
        if clock.elapsed() - looked > LOOK_EVERY:
            now, looked = processes.standing(change.transactions), clock.elapsed()
            known |= {id_ for id_ in ends if id_ in now and now[id_].applied}
        applied += len(known)
        ends = {id_: end for id_, end in ends.items() if id_ not in known and end > clock.elapsed()}
    return InForceOn(len(at_first), applied, _since(started))


def _next_answer(announcement: Announcement | None) -> tuple[UUID | None, Announcement | None]:
    """Return who has answered, within LOOK_EVERY, and where to wait for the next answer."""
    if announcement is not None:
        try:
            return announcement.next_answer(LOOK_EVERY), announcement
        except redis.RedisError as error:
            logger.warning("Answers cannot be heard (%s): the registry tells.", type(error).__name__)
    time.sleep(LOOK_EVERY)
    return None, None


def _since(started: float) -> float:
    return round(1_000 * (clock.elapsed() - started), 1)
