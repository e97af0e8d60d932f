"""ANY /gateway/v1/authorize: may this request pass? And what is counted of the answer (design §8)."""

from __future__ import annotations

from typing import Final

from audit.redaction import redact
from gateways.answers import NO_BODY, Scope, Send, allowed, new_decision_id, send_refusal
from gateways.decision import Decision, Question, Reason
from gateways.engine import Engine
from gateways.question import read_question
from usage.counting import Counter
from usage.events import NewEvent
from usage.models import Outcome

PATH: Final = "/gateway/v1/authorize"
MOST_METHOD: Final = 16
MOST_PATH: Final = 500
# A slug has 60 at most: what is longer is no group's, and cut still tells whose it was meant to be.
MOST_STATED: Final = 80


async def authorize(engine: Engine, scope: Scope, send: Send) -> None:
    """Answer the question that the request's headers ask, and count it. Query and body are never looked at."""
    decision_id = new_decision_id()
    try:
        question = read_question(scope["headers"])
        if question.gateway_token is None:
            # Nobody's question: the database need not be asked, and there is nothing to count it under.
            return await send_refusal(send, Reason.GATEWAY_UNKNOWN, decision_id)
        decision = engine.decide_now(question)
        if decision is None:
            decision = await engine.ask_database(question)
        _count(engine.counter, decision, question, scope, decision_id)
    except Exception as error:
        engine.complain("authorize", error)
        return await send_refusal(send, Reason.UNDECIDED, decision_id)
    if decision.reason is None and decision.version is not None:
        await send(allowed(decision.version, decision_id))
        return await send(NO_BODY)
    return await send_refusal(send, decision.reason or Reason.UNDECIDED, decision_id)


def _count(counter: Counter, decision: Decision, question: Question, scope: Scope, decision_id: bytes) -> None:
    """Count a request where this gateway's requests are counted here; a denial always, and apart."""
    gateway, version = decision.gateway, decision.version
    if gateway is None:
        return
    if version is None:
        counter.denied(at=decision.at, gateway_id=gateway.id, version_id=None, group_id=None)
        return
    key = version.key
    group_id = key.group.id if key.group is not None else None
    if not decision.allowed:
        counter.denied(at=decision.at, gateway_id=gateway.id, version_id=version.id, group_id=group_id)
    elif gateway.counts_at_authorize:
        counter.served(
            at=decision.at, gateway_id=gateway.id, public_id=key.public_id, version_id=version.id, group_id=group_id
        )
    else:
        return
    if counter.keeps_event(denied=not decision.allowed):
        method, path = _asked_for(scope)
        address = question.address_at(gateway)
        counter.keep(
            NewEvent(
                gateway_id=gateway.id,
                event_id=decision_id.decode(),
                occurred_at=decision.at,
                received_at=decision.at,
                outcome=Outcome.SERVED if decision.allowed else Outcome.DENIED,
                reason=decision.reason or "",
                key_id=key.id,
                version_id=version.id,
                consumer_group_id=group_id,
                decision_id=decision_id.decode(),
                method=method,
                path=path,
                client_ip=str(address) if address is not None else None,
                stated_group=None if decision.allowed else _stated(question.group or ""),
            )
        )


def _asked_for(scope: Scope) -> tuple[str, str]:
    """Return method and path of the client's request where the gateway appends them to its own; else nothing.

    Gateways that append no path ask by GET, whatever their client did.
    """
    path = scope["path"][len(PATH) :]
    return (_storable(scope["method"])[:MOST_METHOD], _storable(path)[:MOST_PATH]) if path else ("", "")


def _stated(group: str) -> str:
    """Return the group that the gateway named, whatever it wrote there, as text that can be kept and shown."""
    return "".join(character if character.isprintable() else "�" for character in _storable(group)[:MOST_STATED])


def _storable(text: str) -> str:
    return redact(text.encode("utf-8", "replace").decode().replace("\x00", ""))
