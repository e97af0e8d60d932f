"""The base of every screen of the console: the rule book decides, the verbs write, nothing is deleted.

A screen says what it shows as any ModelAdmin does, and gives `verb_create` and `verb_edit` where it has them. What
these verbs refuse becomes an error of the form or, for Forbidden, a 403; both are recorded as refused attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any, ClassVar, cast
from weakref import WeakKeyDictionary

from django import forms
from django.contrib import messages
from django.contrib.admin import ShowFacets, display
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import quote
from django.core.exceptions import BadRequest, ImproperlyConfigured, PermissionDenied, ValidationError
from django.db import DataError, IntegrityError, models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import ModelAdmin, checkbox
from unfold.dataclasses import UnfoldAction

from access.actors import request_actor
from access.confirmation import require_confirmed
from access.models import Member
from access.once import AlreadyDone
from access.overtaken import NOT_SAVED, known_state, overtaken, with_last_entry
from access.preconditions import PreconditionFailed
from access.refusals import Conflict, Forbidden, record_refusal
from access.reveal import Secret, reveal_page
from audit.change_lists import StrictChangeList

_READS = frozenset({"GET", "HEAD"})
# What a page that only reads has asked already: the same questions come for every button of it.
_answered: WeakKeyDictionary[HttpRequest, dict[tuple[Any, ...], Any]] = WeakKeyDictionary()
# The secret that a request has made, until its answer shows it. In memory only, and gone with the request.
_secrets: WeakKeyDictionary[HttpRequest, Secret] = WeakKeyDictionary()
# What a form has edited, with what its verb tells after commit (`narrowing`, where it has that).
_edited: WeakKeyDictionary[HttpRequest, models.Model] = WeakKeyDictionary()
# What a verb said no with, while the form is shown again with it.
_refused: WeakKeyDictionary[HttpRequest, ValidationError] = WeakKeyDictionary()


class NullsLast(models.F):
    """A column to sort by, in which what has no value comes last in both directions."""

    def asc(self, **kwargs: Any) -> models.expressions.OrderBy:
        return super().asc(nulls_last=True)

    def desc(self, **kwargs: Any) -> models.expressions.OrderBy:
        return super().desc(nulls_last=True)


class ConsoleChangeList(StrictChangeList):
    """A list that knows, for every row of the page, which actions the row's menu offers."""

    offered_paths: dict[Any, frozenset[str]]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        admin = cast("ConsoleAdmin[Any]", self.model_admin)
        # What is done to rows that were ticked never shows the list.
        self.result_list = [] if request.POST.getlist(ACTION_CHECKBOX_NAME) else self.page_rows()
        if not (self.query or self.has_active_filters):
            # Nothing is left out, so the page need not offer to show it (the count was not made a second time).
            self.full_result_count = self.result_count
        self.offered_paths = {
            pk: frozenset(f"{admin.admin_site.name}:{admin.action_name(name)}" for name in names)
            for pk, names in (admin.offered_actions(request, self.result_list) if self.result_list else {}).items()
        }

    def page_rows(self) -> list[Any]:
        """Return the rows of this page."""
        return list(self.result_list)


class ConsoleAdmin[M: models.Model](ModelAdmin):
    """A screen whose rows, rights and writes follow the rule book and the verbs."""

    list_per_page = 25
    list_max_show_all = 25
    show_full_result_count = False
    # Counts beside every filter would be a query each.
    show_facets = ShowFacets.NEVER
    list_filter_submit = True
    list_filter_sheet = True
    save_as = False
    save_on_top = False
    actions_selection_counter = True
    change_form_show_cancel_button = True
    # unfold's own types of these allow nothing but the empty tuple.
    actions_list: Any = ()
    actions_row: Any = ()
    actions_detail: Any = ()
    add_fieldsets: Any = ()
    fieldsets: ClassVar[Any] = None
    # What the form of a new object is called, else Django's words; and its button.
    add_title: ClassVar[str] = ""
    add_button: ClassVar[str] = "Create"
    # What the page of one object shows of others, fetched with it.
    detail_select_related: ClassVar[tuple[str, ...]] = ()
    # Whether its forms are for those alone who have proven a moment ago that they are who they are.
    confirmed_only: ClassVar[bool] = False
    list_before_template: Any = None
    change_form_before_template: Any = None
    change_form_outer_before_template: Any = None
    change_form_outer_after_template: Any = None

    # --- the rule book ------------------------------------------------------------------------------------------------

    def permission(self, verb: str) -> str:
        """Return the rule book's name of `verb` for this screen's model."""
        return f"{self.opts.app_label}.{verb}_{self.opts.model_name}"

    def allows(self, request: HttpRequest, verb: str, obj: M | None = None) -> bool:
        """Say whether the rule book lets the signed-in member do this."""
        member = request.user

        def ask() -> bool:
            return isinstance(member, Member) and member.may(self.permission(verb), obj)

        return once_a_page(request, ("may", self.permission(verb), obj.pk if obj is not None else None), ask)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Whoever was given it to see need not be asked again.
        if obj is not None and _answered.get(request, {}).get(("object", self.opts.label, str(obj.pk))) is not None:
            return self.allows(request, "view")
        return self.allows(request, "view", obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, "add")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "change", obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing disappears (design §3.7)."""
        return False

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[M]:
        return cast(Member, request.user).visible(super().get_queryset(request))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> M | None:
        """Return the object by its primary key alone: Django takes any column that an address names, even "" as one."""

        def find() -> M | None:
            rows = self.get_queryset(request).select_related(*self.detail_select_related)
            try:
                pk = self.opts.pk.to_python(object_id)
                return with_last_entry(rows, pk).get(pk=pk) if request.method in _READS else rows.get(pk=pk)
            except (self.model.DoesNotExist, ValidationError, ValueError):
                return None

        return once_a_page(request, ("object", self.opts.label, object_id), find)

    def get_actions(self, request: HttpRequest, *args: Any, **kwargs: Any) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request, *args, **kwargs)
        actions.pop("delete_selected", None)
        return actions

    @display(description=checkbox.render("action_toggle_all", 1))
    def action_checkbox(self, obj: models.Model) -> SafeString:
        # As unfold's own, whose template costs more than all else in a row when it is rendered for each.
        before, after = _tick_box()
        return format_html("{}{}{}", before, obj.pk, after)

    # --- actions that depend on the row -------------------------------------------------------------------------------

    def action_name(self, name: str) -> str:
        """Return what unfold calls the action `name` of this screen: the name of its address."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def offered_actions(self, request: HttpRequest, rows: Sequence[M]) -> dict[Any, Collection[str]]:
        """Return, by primary key, the row and detail actions that each row offers; a row not named offers all.

        Called once a page: an override answers for all rows in a fixed number of queries. Only a matter of what is
        shown: every action checks again.
        """
        return {}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        extra_context = {"title": capfirst(self.opts.verbose_name_plural), **(extra_context or {})}
        try:
            return super().changelist_view(request, extra_context)
        except (ValidationError, OverflowError, DataError) as error:
            # A ticked row whose id is none, or a number that no column holds; Django would answer 500.
            raise BadRequest("not a value that a row can have") from error

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ConsoleChangeList]:
        return ConsoleChangeList

    def get_actions_detail(self, request: HttpRequest, object_id: int | str) -> list[UnfoldAction]:
        actions = super().get_actions_detail(request, object_id)
        obj = self.get_object(request, str(object_id))
        if obj is None:
            return []
        names = self.offered_actions(request, [obj]).get(obj.pk)
        offered = None if names is None else {self.action_name(name) for name in names}
        return [action for action in actions if offered is None or action.action_name in offered]

    # --- writing ------------------------------------------------------------------------------------------------------

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[M]) -> M:
        """Create through the house's verb and return the object; call `show_once` for a secret it came with."""
        raise ImproperlyConfigured(f"{type(self).__name__} creates nothing")

    def verb_edit(self, request: HttpRequest, form: forms.ModelForm[M], obj: M) -> M:
        """Edit through the house's verb and return the object. `form.cleaned_data` says what it should become."""
        raise ImproperlyConfigured(f"{type(self).__name__} edits nothing")

    def tag_of(self, obj: M) -> str:
        """Return the tag of the state that the form edits; "" on a screen without a form.

        A screen that gives one lets its `verb_edit` demand `expected_state(request)` (access/overtaken.py).
        """
        return ""

    def show_once(self, request: HttpRequest, secret: Secret) -> None:
        """Let the answer to this request be the page that shows `secret`."""
        _secrets[request] = secret

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form or carry it out; what the verb refuses is shown in the form, nothing half done."""
        if request.method == "POST":
            try:
                self.require_write(request, object_id)
            except Conflict as conflict:
                return self._back_to_object(request, conflict)
        # Asked before anything is typed where that can be; a page that also only shows asks when it is sent.
        if self.confirmed_only and (request.method == "POST" or object_id is None) and self.allows(request, "add"):
            require_confirmed(request)
        extra_context = {
            "show_save_and_add_another": False,
            "show_save_and_continue": False,
            "show_save_as_new": False,
            "show_delete": False,
            **({"title": self.add_title} if object_id is None and self.add_title else {}),
            **(extra_context or {}),
        }
        obj = self.get_object(request, object_id) if object_id is not None else None
        if obj is not None and self.has_change_permission(request, obj) and (tag := self.tag_of(obj)):
            extra_context["known_state"] = known_state(request, obj, tag)
        try:
            response = super().changeform_view(request, object_id, form_url, extra_context)
            # Only now, after Django's transaction around the form, is it known.
            if (change := getattr(_edited.get(request), "narrowing", None)) and (words := change.told("In force")):
                messages.info(request, f"{words}.")
            return response
        except AlreadyDone as done:
            return self._already_done(request, done)
        except Conflict as conflict:
            # Django's transaction around the form has unwound by now; the refusal is recorded in one of its own.
            obj = self.get_object(request, object_id) if object_id is not None else None
            if object_id is not None and not self.has_change_permission(request, obj):
                return self._back_to_object(request, conflict)
            record_refusal(request_actor(request), conflict)
            _refused[request] = ValidationError(conflict.detail, code=conflict.code)
        except PreconditionFailed as failed:
            extra_context["overtaken"] = missed = overtaken(request, failed)
            # A form may stand far down on the page of its object.
            messages.error(request, missed.in_words)
            _refused[request] = ValidationError(NOT_SAVED, code="precondition_failed")
        except ValidationError as error:
            _refused[request] = error
        except IntegrityError:
            # Between the form's look and the verb's writing, somebody else has written what may be there once.
            _refused[request] = ValidationError("Somebody else has changed the same just now.", code="conflict")
        # The same request once more: the form is not valid now, so no verb runs, and it shows why.
        return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[M]]:
        form_class = super().get_form(request, obj, change=change, **kwargs)
        refusal = _refused.get(request)
        return form_class if refusal is None else refused_form(form_class, refusal)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> M:
        """Carry out the verb: the one place where this screen writes."""
        if change:
            _edited[request] = obj = self.verb_edit(request, form, form.instance)
            return obj
        return self.verb_create(request, form)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing: the verb has written."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: the verb has written."""

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> list[Any]:
        return []

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing: the audit log has the entry, written with the change."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing: the audit log has the entry, written with the change."""

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        raise Http404("the audit log is the history")

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        secret = _secrets.pop(request, None)
        if secret is not None:
            return reveal_page(request, self.admin_site, secret, opts=self.opts)
        return super().response_add(request, obj, post_url_continue)

    def require_write(self, request: HttpRequest, object_id: str | None) -> None:
        """Return if the form may be carried out; else raise what is recorded, where Django would only refuse.

        Errors: Forbidden, which ends the request; Conflict, which goes back to the object and says why.
        """
        if IS_POPUP_VAR in request.POST or IS_POPUP_VAR in request.GET:
            raise PermissionDenied
        if object_id is None:
            if not self.allows(request, "add"):
                raise Forbidden(self.permission("add"))
            return
        obj = self.get_object(request, object_id)
        if obj is not None and not self.allows(request, "change", obj):
            raise Forbidden(self.permission("change"), obj)

    def _back_to_object(self, request: HttpRequest, conflict: Conflict) -> HttpResponse:
        record_refusal(request_actor(request), conflict)
        messages.error(request, conflict.detail)
        return HttpResponseRedirect(request.get_full_path())

    def _already_done(self, request: HttpRequest, done: AlreadyDone) -> HttpResponse:
        """Say that the form was carried out before, with the way to what it made; the secret is not shown again."""
        obj = self.get_object(request, str(done.note.get("id", "")))
        page = f"{self.admin_site.name}:{self.action_name('change')}"
        context = {
            **self.admin_site.each_context(request),
            "title": "This was done already",
            "opts": self.opts,
            "obj": obj,
            "url": reverse(page, args=[quote(obj.pk)]) if obj is not None else "",
            **(self.already_done_context(obj) if obj is not None else {}),
        }
        response = TemplateResponse(request, "console/already_done.html", context, status=409)
        response["Cache-Control"] = "no-store"
        return response

    def already_done_context(self, obj: M) -> dict[str, Any]:
        """Return what the page for a form sent twice offers to do about `obj`: `replace_url` and `form_token`."""
        return {}

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """What a member may not see is answered as if it did not exist."""
        raise Http404(f"no such {opts.verbose_name}")


def add_errors(form: forms.BaseForm, error: ValidationError) -> None:
    """Show a verb's error in `form`: at the field it names, or above the form where the form has no such field."""
    if not hasattr(error, "error_dict"):
        form.add_error(None, error)
        return
    for field, errors in error.error_dict.items():
        form.add_error(field if field in form.fields else None, errors)


def refused_form(form_class: type[forms.ModelForm[Any]], refusal: ValidationError) -> type[forms.ModelForm[Any]]:
    """Return the form that is never valid, because the verb has said no."""

    class RefusedForm(form_class):  # type: ignore[misc, valid-type]  # a class that Django has just made
        def full_clean(self) -> None:
            super().full_clean()
            add_errors(self, refusal)

    return RefusedForm


@cache
def _tick_box() -> tuple[SafeString, SafeString]:
    """Return what stands before and after the id of a row in the box that selects it."""
    before, _, after = checkbox.render(ACTION_CHECKBOX_NAME, "of-the-row").partition("of-the-row")
    return SafeString(before), SafeString(after)


def once_a_page[T](request: HttpRequest, question: tuple[Any, ...], ask: Callable[[], T]) -> T:
    """Return the answer, asked once in a request that only reads. One that changes something asks every time anew."""
    if request.method not in _READS:
        return ask()
    answers = _answered.setdefault(request, {})
    if question not in answers:
        answers[question] = ask()
    return cast("T", answers[question])
