"""One ASGI application for all: gateways' questions and probes take the short way, all else goes through Django."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from inspect import markcoroutinefunction
from typing import TYPE_CHECKING, Any

from django.core.asgi import get_asgi_application
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from operations.asgi import Operations

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keeptrusts.settings")

type Scope = dict[str, Any]
type Receive = Callable[[], Awaitable[Mapping[str, Any]]]
type Send = Callable[[Mapping[str, Any]], Awaitable[None]]
type Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

GATEWAY_PREFIX = "/gateway/v1/"

_console: Application = get_asgi_application()
# By name, because they use models: they can be imported only now that Django is set up.
_console = import_string("keeptrusts.door.Door")(_console)
_gateways: Application = import_string("gateways.asgi.application")
_operations: Operations = import_string("operations.asgi.application")
PROBES: frozenset[str] = import_string("operations.asgi.PATHS")


# Not a coroutine, but gives the one that it chooses: to make one more would cost every request.
@markcoroutinefunction
def application(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    """Answer one connection; the gateways' application also learns of start and stop (`lifespan`)."""
    if scope["type"] == "lifespan":
        _operations.start()
        return _gateways(scope, receive, send)
    path: str = scope["path"]
    if path.startswith(GATEWAY_PREFIX):
        return _gateways(scope, receive, send)
    if path in PROBES:
        return _operations(scope, receive, send)
    return _console(scope, receive, send)
