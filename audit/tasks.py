from __future__ import annotations

from celery import shared_task

from audit.actor import Actor
from audit.sealing import seal as seal_entries
from audit.verification import verify_for
from audit.witnesses import copy_checkpoints


@shared_task
def seal() -> None:
    seal_entries()
    copy_checkpoints()


@shared_task
def verify() -> None:
    verify_for(Actor.system("verification"))
