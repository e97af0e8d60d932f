"""Who does something: always an explicit argument, never looked up in the background."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class ActorKind(StrEnum):
    MEMBER = "member"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


class Authority(Protocol):
    """Whatever can say what its holder may do; `access.models.Member` is one."""

    def may(self, permission: str, obj: object | None = None) -> bool: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who acts, by which credential, from where. Names are kept as they were at the time.

    credential: "session", or the label of the access key used; "" for the system.
    request_id: of the request in which that happens, as the log of the server has it; "" outside of one.
    authority: what the actor may do; None for the system itself, which only tidies what time has decided.
    """

    kind: ActorKind
    id: str
    label: str
    credential: str = ""
    ip: str | None = None
    request_id: str = ""
    authority: Authority | None = None

    @classmethod
    def system(cls, job: str) -> Actor:
        """The actor of a job or command; `job` says which, in words."""
        return cls(kind=ActorKind.SYSTEM, id="", label=job)

    @classmethod
    def anonymous(cls, *, label: str, ip: str | None) -> Actor:
        """Somebody who is not signed in and claims to be `label`."""
        return cls(kind=ActorKind.ANONYMOUS, id="", label=label, ip=ip)

    def may(self, permission: str, obj: object | None = None) -> bool:
        if self.kind is ActorKind.SYSTEM:
            return True
        return self.authority is not None and self.authority.may(permission, obj)
