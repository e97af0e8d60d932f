"""What a bulk fix did, key by key: the form that was confirmed is carried out once, and leads here.

However often this page is loaded, nothing is done again. The result is forgotten after a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from access.actors import caller, request_actor
from access.models import Member
from access.once import AlreadyDone, begin_once, note_of
from access.pages import console_page, page_context
from keys import bulk
from keys.bulk import Fix
from keys.models import GatewayKey, GatewayKeyQuerySet

ROWS_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one key. key: None where the member does not see it, or no longer."""

    key_id: UUID
    what: str
    why: str
    key: GatewayKey | None = None

    @property
    def variant(self) -> str:
        return {"Done": "success", "Refused": "danger"}.get(self.what, "default")


def carry_out(
    request: HttpRequest,
    fix: Fix,
    ids: Sequence[UUID],
    skipped: Sequence[UUID],
    *,
    title: str,
    back: str,
    token: UUID,
) -> HttpResponse:
    """Do `fix` to the keys `ids`, once for this token, and lead to the page that tells what became of them.

    skipped: those that were left out when it was previewed. title, back: of that page. Errors: ValidationError for
    too many keys, before anything is done.
    """
    member, actor = caller(request), request_actor(request)
    result = reverse("admin:hygiene_result", args=[token])
    with suppress(AlreadyDone), begin_once(member=member, path=result, token=token) as note:
        seen = {key.pk: key for key in _visible(member, [*ids, *skipped]).select_related("consumer_group", "owner")}
        left = bulk.preview(member, fix, [seen[key_id] for key_id in skipped if key_id in seen])
        results = bulk.apply_many(actor=actor, fix=fix, key_ids=[key_id for key_id in ids if key_id in seen])
        bulk.record_refusals(actor, results)
        # What the member does not see does not exist.
        results += [bulk.BulkResult(key_id, None, GatewayKey.DoesNotExist()) for key_id in ids if key_id not in seen]
        done = [one for one in results if one.error is None]
        change = next((one.key.narrowing for one in done if one.key is not None), None)
        note |= {
            "title": title,
            "back": back,
            "where": change.told("In force") if change is not None else "",
            "refused": [[str(one.key_id), one.why_not] for one in results if one.error is not None],
            "left": [[str(plan.key.pk), plan.why_not] for plan in left],
            "done": [[str(one.key_id), ""] for one in done],
        }
    return HttpResponseRedirect(result)


@console_page("hygiene/result/<uuid:token>/", name="hygiene_result", permission="keys.view_gatewaykey")
def result_page(request: HttpRequest, token: UUID) -> HttpResponse:
    """Show to who did it what became of each key: the refused first, then those that were left as they were."""
    member = caller(request)
    note = note_of(member=member, path=request.path, token=token)
    if note is None:
        raise Http404("no such result, or no longer")
    outcomes = [
        Outcome(UUID(key_id), what, why)
        for name, what in (("refused", "Refused"), ("left", "Left as it was"), ("done", "Done"))
        for key_id, why in note.get(name, [])
    ]
    page = Paginator(outcomes, ROWS_SHOWN).get_page(request.GET.get("p"))
    context = page_context(
        request,
        f"{note['title']}: result" if note else "No result yet",
        known=bool(note),
        done=len(note.get("done", [])),
        refused=len(note.get("refused", [])),
        left=len(note.get("left", [])),
        where=note.get("where", ""),
        back=note.get("back") or reverse("admin:hygiene"),
        page=page,
        rows=_with_keys(member, list(page)),
    )
    response = TemplateResponse(request, "keys/fix_result.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _with_keys(member: Member, outcomes: Sequence[Outcome]) -> list[Outcome]:
    keys = _visible(member, [outcome.key_id for outcome in outcomes]).select_related("consumer_group")
    found = {key.pk: key for key in keys}
    return [Outcome(one.key_id, one.what, one.why, found.get(one.key_id)) for one in outcomes]


def _visible(member: Member, ids: Sequence[UUID]) -> GatewayKeyQuerySet:
    return cast("GatewayKeyQuerySet", member.visible(cast(Any, GatewayKey.objects.filter(pk__in=ids))))
