"""Actions behind a dialog: opened by htmx, checked when it opens and again when it is carried out."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from unfold.dataclasses import ActionDialog
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from access.actors import request_actor
from access.confirmation import require_confirmed
from access.console import add_errors
from access.models import Member
from access.refusals import Conflict, Forbidden, record_refusal


class DialogForm(BaseDialogForm):
    """The form of a dialog about one object, which the member sees and may do this to.

    Errors, when made: Http404 for an object that the member does not see; Forbidden, which the middleware records;
    ConfirmationNeeded.
    """

    # Templates read these from the class, which Django would otherwise call to see what it makes.
    do_not_call_in_templates: ClassVar[bool] = True
    model: ClassVar[type[models.Model]]
    permission: ClassVar[str]
    # What the dialog says, below its title; and whether its button is red.
    description: str = ""
    destructive: ClassVar[bool] = False
    # Whether it is for those alone who have proven a moment ago that they are who they are (access/confirmation.py).
    confirmed_only: ClassVar[bool] = False

    def __init__(self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any) -> None:
        self.obj: Any = find_visible(request, self.model, object_id)
        if not (isinstance(request.user, Member) and request.user.may(self.permission, self.obj)):
            raise Forbidden(self.permission, self.obj)
        if self.confirmed_only:
            require_confirmed(request)
        super().__init__(request, object_id, *args, **kwargs)

    @property
    def conflict(self) -> str:
        """Why the object's state does not allow this now; "" where it does. The verb checks again."""
        return ""


def find_visible[M: models.Model](request: HttpRequest, model: type[M], object_id: object) -> M:
    """Return the object with this id, if the signed-in member sees it; else Http404."""
    try:
        objects = model._default_manager.filter(pk=object_id)
        found = request.user.visible(objects).first() if isinstance(request.user, Member) else None
    except (ValidationError, ValueError):
        found = None
    if found is None:
        raise Http404(f"no such {model._meta.verbose_name}")
    return found


def dialog_action[F: DialogForm](
    form_class: type[F], *, title: str, submit: str, icon: str, url_path: str | None = None, loud: bool = True
) -> Callable[[Callable[[Any, HttpRequest, F], HttpResponse]], Any]:
    """Make a method `(self, request, form)` an action of rows and details that a dialog stands before.

    What the verb refuses is shown in the dialog, which stays open; a Conflict is recorded as a refused attempt.
    loud: whether the button on the page is red already, where the dialog's is (`destructive`).
    """
    dialog = ActionDialog(title=title, form_class=form_class, form_submit_text=submit)

    def decorate(method: Callable[[Any, HttpRequest, F], HttpResponse]) -> Any:
        @wraps(method)
        def perform(admin: Any, request: HttpRequest, form: F, object_id: str) -> HttpResponse:
            try:
                return method(admin, request, form)
            except Conflict as conflict:
                record_refusal(request_actor(request), conflict)
                form.add_error(None, conflict.detail)
            except ValidationError as error:
                add_errors(form, error)
            return show_dialog(request, form, title=title, submit=submit)

        variant = ActionVariant.DANGER if form_class.destructive and loud else ActionVariant.DEFAULT
        return action(
            description=title, icon=icon, variant=variant, dialog=dialog, url_path=url_path, attrs={"role": "button"}
        )(perform)

    return decorate


def show_dialog(request: HttpRequest, form: forms.BaseForm, *, title: str, submit: str) -> HttpResponse:
    """Answer with the dialog, as unfold's own decorator does when the form is not valid."""
    context = {"dialog": {"title": title}, "form": form, "form_submit_text": submit}
    return render(request, "unfold/helpers/dialog.html", context)


def reload_page(request: HttpRequest, message: str) -> HttpResponse:
    """Close the dialog by loading the page below it again, with `message` on it. Never put a secret into it."""
    messages.success(request, message)
    return HttpResponse(headers={"HX-Refresh": "true"})
