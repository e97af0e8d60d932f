"""LiteLLM asks Keeptrusts whether a request may pass, and reports what it has served.

One file, to lie beside LiteLLM's config.yaml, which names `custom_auth` and `usage`. It needs nothing but what LiteLLM
brings, and is set up by the environment (any of these may be given as NAME_FILE, the path of a file that holds it):

    KEEPTRUSTS_URL              where Keeptrusts answers, such as https://keys.example.com
    KEEPTRUSTS_GATEWAY_TOKEN    kt_gt_…, of a gateway that is registered with usage_source = report
    KEEPTRUSTS_SPOOL            a folder that survives a restart: what is not reported yet lies there
    KEEPTRUSTS_SPOOL_MEBIBYTES  how large it may become (256); what would not fit is not counted, and that is logged
    KEEPTRUSTS_CONSUMER_GROUP   the group of this LiteLLM's traffic, where it serves one alone

How it is built: a `Door` before LiteLLM's application takes each key out of the request and puts a random handle in its
place, so that the value is nowhere in LiteLLM: in no log, callback, trace or call to a provider. `custom_auth` gets the
handle back and asks. The door sees how the answer ended, `usage` what it cost; the `Spool` holds both until they are
reported. LiteLLM loads this file once for each name in its configuration: what is shared lives in `app.state`.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import logging
import os
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import Any, Final

import httpx
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import ProxyException, UserAPIKeyAuth
from litellm.proxy.proxy_server import app

type Message = Mapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

logger = logging.getLogger("keeptrusts")

# Seconds, in all. Keeptrusts answers "undecided" after 3 itself; LiteLLM may stop for 2 while it loads what its first
# request needs, and a shorter limit, of the connection alone too, would take that for a network that is gone.
ASK_WITHIN: Final = 5.0
REPORT_TIMEOUT: Final = httpx.Timeout(30.0, connect=2.0)
# A question may be asked again where the connection turned out to have been closed while it lay idle.
CONNECTION_WAS_STALE: Final = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
REPORT_EVERY: Final = 0.5
LONGEST_PAUSE: Final = 10.0
# How long a request that has ended waits for its tokens, which LiteLLM tells afterwards.
SETTLES_WITHIN: Final = 5.0
SEGMENT_BYTES: Final = 1_048_576
FEW_SEGMENTS: Final = 20
EVENTS_AT_ONCE: Final = 1_000
COMPLAIN_EVERY: Final = 60.0

CLIENT_GONE: Final = 499
MOST_TEXT: Final = 100
MOST_PATH: Final = 500
MOST_NUMBER: Final = 1_000_000_000

# How streams end: OpenAI's completions and responses, and Anthropic's messages.
LAST_WORDS: Final = (b"data: [DONE]", b'"type":"response.completed"', b"event: message_stop")
# In Anthropic's streams LiteLLM tells the client of an error, and no callback.
STREAM_BROKE: Final = b"event: error\n"

# Where LiteLLM looks for a key. What lies there is no key of ours perhaps, and a secret all the same.
CREDENTIALS: Final = frozenset(
    {b"authorization", b"x-litellm-api-key", b"api-key", b"x-api-key", b"x-goog-api-key", b"ocp-apim-subscription-key"}
)
SCHEMES: Final = frozenset({b"bearer", b"basic"})
VALUE: Final = re.compile(rb"(kt_(?:gk|gt|ak)_)\w+", re.IGNORECASE)
SENDABLE: Final = re.compile(r"[!-~]{1,200}")
DESCRIPTION: Final = re.compile(r'error_description="([^"]*)"')

# The names of OpenTelemetry (gen_ai.operation.name) for what LiteLLM calls a call type; others keep LiteLLM's.
OPERATIONS: Final = {
    **dict.fromkeys(("completion", "acompletion"), "chat"),
    **dict.fromkeys(("responses", "aresponses"), "chat"),
    **dict.fromkeys(("anthropic_messages", "aanthropic_messages"), "chat"),
    **dict.fromkeys(("text_completion", "atext_completion"), "text_completion"),
    **dict.fromkeys(("embedding", "aembedding"), "embeddings"),
    **dict.fromkeys(("generate_content", "agenerate_content"), "generate_content"),
}


def setting(name: str, default: str | None = None) -> str:
    """Return what the environment says, or the file that it names. Errors: RuntimeError, and LiteLLM does not start."""
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text().strip()
    value = os.environ.get(name) or default
    if value is None:
        raise RuntimeError(f"Keeptrusts: set {name} or {name}_FILE.")
    return value


class Complaints:
    """Logs what is wrong, each kind at most once a minute: it concerns every request."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, kind: str, text: str, *particulars: object) -> None:
        now = time.monotonic()
        if now - self._last.get(kind, -COMPLAIN_EVERY) >= COMPLAIN_EVERY:
            self._last[kind] = now
            logger.error("Keeptrusts: " + text, *particulars)


complain = Complaints()

# --- one request ------------------------------------------------------------------------------------------------------


class Call:
    """A request from its first byte to its last, and what is known of it."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.values: dict[str, str] = {}  # handle -> what the client sent
        self.began = time.monotonic()
        self.occurred_at = datetime.now(UTC)
        self.method = scope.get("method", "GET")
        self.path = scope["path"]
        self.client_ip = address_of(scope.get("client"))
        self.decision_id = self.key_id = self.key_version = ""
        self.status: int | None = None
        self.failure: int | None = None
        self.gone = False
        self.ended: float | None = None
        self.is_told = False  # LiteLLM has said how it ended: there is nothing to wait for
        self.facts: dict[str, Any] = {}
        self.charged: dict[str, tuple[int, int, float]] = {}

    def allow(self, answer: httpx.Headers) -> None:
        self.decision_id = self.decision_id or answer["X-Keeptrusts-Decision-Id"]
        self.key_id, self.key_version = answer["X-Keeptrusts-Key-Id"], answer["X-Keeptrusts-Key-Version"]

    @property
    def was_allowed(self) -> bool:
        return bool(self.decision_id)

    def event(self) -> dict[str, Any]:
        """Return what Keeptrusts is told. Its id and time are fixed: told twice, it counts once."""
        event = {
            "id": self.decision_id,
            "occurred_at": self.occurred_at.isoformat(),
            "key_id": self.key_id,
            "key_version": int(self.key_version),
            "decision_id": self.decision_id,
            "status": self._final_status(),
            "latency_ms": round(((self.ended or time.monotonic()) - self.began) * 1_000),
            "method": text(self.method, 16),
            "path": text(self.path, MOST_PATH),
            "client_ip": self.client_ip,
            **self.facts,
        }
        if self.charged:
            inputs, outputs, costs = zip(*self.charged.values(), strict=True)
            event |= {"input_tokens": number(sum(inputs)), "output_tokens": number(sum(outputs))}
            event["cost"] = f"{min(max(sum(costs), 0.0), MOST_NUMBER - 1):.9f}"
        return event

    def _final_status(self) -> int:
        if self.gone:
            return CLIENT_GONE
        status = self.status or 500
        # A stream that broke off has said 200 long before.
        return self.failure if self.failure is not None and status < 400 else status


def address_of(client: Sequence[Any] | None) -> str | None:
    """Return the address of whoever connected; None where there is none that anyone else could use."""
    try:
        address = ipaddress.ip_address(client[0]) if client else None
    except ValueError:
        return None
    return None if getattr(address, "scope_id", None) or address is None else str(address)


def text(value: object, most: int = MOST_TEXT) -> str:
    """Return what Keeptrusts takes for a text: no NUL, no half characters, not too long."""
    return str(value or "").replace("\x00", "").encode("utf-8", "replace").decode()[:most]


def number(value: object) -> int:
    return min(max(value, 0), MOST_NUMBER) if isinstance(value, int) else 0


# --- the door ---------------------------------------------------------------------------------------------------------


class Door:
    """Stands before LiteLLM's application: no key passes it, and no answer ends unseen."""

    def __init__(self, application: Application, spool: Spool) -> None:
        self.application = application
        self.spool = spool

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return await self.application(scope, receive, send)
        # In place: what the server logs of the request afterwards is this.
        scope["path"] = hide_text(scope["path"])
        scope["query_string"] = hide(scope["query_string"])
        call = Call(scope)
        scope["headers"] = list(without_secrets(scope["headers"], call.values))
        scope.setdefault("state", {})["keeptrusts"] = call
        ears = Ears(receive)

        async def watched(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                call.status = message["status"]
            elif message["type"] == "websocket.accept":
                call.status = 101
            elif message["type"] == "http.response.body" and STREAM_BROKE in message.get("body", b""):
                call.failure = call.failure or 500
            if message["type"] == "http.response.body" and is_last(message):
                # Before the client has the last of it: whatever was answered whole is counted, come what may.
                self._end(call, gone=ears.client_is_gone)
            await send(message)

        try:
            await self.application(scope, ears, watched)
        finally:
            self._end(call, gone=ears.client_is_gone and scope["type"] == "http")
            ears.close()
        return None

    def _end(self, call: Call, *, gone: bool) -> None:
        if call.ended is None:
            call.ended, call.gone = time.monotonic(), gone
            call.values.clear()
            if call.was_allowed:
                self.spool.served(call)


def is_last(message: Message) -> bool:
    """Say whether the client waits for nothing more: many leave at a stream's last words, before it has ended."""
    body = message.get("body", b"")
    return not message.get("more_body", False) or any(words in body for words in LAST_WORDS)


class Ears:
    """What the client still says. After its body that can only be that it went away, which nobody may be asking."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._rest: asyncio.Future[Message] | None = None
        self._gone = False

    async def __call__(self) -> Message:
        if self._rest is not None:
            return await asyncio.shield(self._rest)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
        elif message["type"] == "http.request" and not message.get("more_body", False):
            self._rest = asyncio.ensure_future(self._receive())
        return message

    @property
    def client_is_gone(self) -> bool:
        return self._gone or (self._rest is not None and self._rest.done())

    def close(self) -> None:
        if self._rest is not None:
            self._rest.cancel()


def without_secrets(headers: list[tuple[bytes, bytes]], values: dict[str, str]) -> Iterator[tuple[bytes, bytes]]:
    """Give the headers with handles for credentials, which go to `values`, and without what only we may say."""
    for name, value in headers:
        if name.startswith(b"x-keeptrusts-"):
            continue
        yield name, handle_for(value, values) if name in CREDENTIALS else hide(value)


def handle_for(value: bytes, values: dict[str, str]) -> bytes:
    """Return the header with a handle for its credential. LiteLLM hashes whatever begins with `sk-`."""
    scheme, _, credential = value.strip().partition(b" ")
    if scheme.lower() not in SCHEMES:
        scheme, credential = b"", value.strip()
    if not credential:
        return value
    handle = f"sk-{secrets.token_hex(16)}"
    values[handle] = credential.strip().decode("latin-1")
    # LiteLLM knows `Bearer` and `bearer` alone, RFC 9110 any case.
    return scheme.capitalize() + b" " + handle.encode() if scheme else handle.encode()


def hide(value: bytes) -> bytes:
    return VALUE.sub(rb"\1-hidden", value)


def hide_text(value: str) -> str:
    return hide(value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


# --- may it pass? -----------------------------------------------------------------------------------------------------


class Authorizer:
    """Asks Keeptrusts. Made once; its connections are kept."""

    def __init__(self, url: str, token: str, group: str) -> None:
        self._url = f"{url}/gateway/v1/authorize"
        self._headers = {"X-Keeptrusts-Gateway-Token": token}
        if group:
            self._headers["X-Keeptrusts-Consumer-Group"] = group
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=60)
        self._client = httpx.AsyncClient(timeout=ASK_WITHIN, limits=limits, follow_redirects=False)

    async def admit(self, call: Call, handle: str | None) -> None:
        """Return if the request may pass. Errors: ProxyException, which LiteLLM gives to the client."""
        headers = dict(self._headers)
        if handle:
            # A key elsewhere than in a header (in the address) has no handle, and is no key.
            value = call.values.get(handle, "")
            headers["Authorization"] = f"Bearer {value if SENDABLE.fullmatch(value) else 'unreadable'}"
        if call.client_ip:
            headers["X-Keeptrusts-Client-IP"] = call.client_ip
        try:
            async with asyncio.timeout(ASK_WITHIN):
                answer = await self._ask(headers)
        except (httpx.HTTPError, OSError) as error:
            complain("ask", "cannot be asked whether requests may pass (%s).", type(error).__name__)
            raise undecided() from None
        reason = answer.headers.get("X-Keeptrusts-Reason", "")
        if answer.status_code == 200 and answer.headers.get("X-Keeptrusts-Key-Id"):
            call.allow(answer.headers)
        elif answer.status_code in {401, 403} and reason not in {"", "gateway_unknown"}:
            raise refused(answer, reason)
        else:
            # Not the client's fault, and it cannot do anything about it.
            kind = f"answer {answer.status_code} {reason}"
            complain(kind, "gives no decision (%s %s).", answer.status_code, reason)
            raise undecided()

    async def _ask(self, headers: dict[str, str]) -> httpx.Response:
        try:
            return await self._client.get(self._url, headers=headers)
        except CONNECTION_WAS_STALE:
            return await self._client.get(self._url, headers=headers)


def refused(answer: httpx.Response, reason: str) -> ProxyException:
    told = ("WWW-Authenticate", "X-Keeptrusts-Reason", "X-Keeptrusts-Decision-Id")
    headers = {name: answer.headers[name] for name in told if name in answer.headers}
    described = DESCRIPTION.search(answer.headers.get("WWW-Authenticate", ""))
    message = described[1] if described else "A gateway key is required"
    return ProxyException(message=message, type=reason, param=None, code=answer.status_code, headers=headers)


def undecided() -> ProxyException:
    headers = {"Retry-After": "1", "X-Keeptrusts-Reason": "undecided"}
    message = "It cannot be decided now whether this request may pass"
    return ProxyException(message=message, type="undecided", param=None, code=503, headers=headers)


async def custom_auth(request: Any, api_key: str | None) -> UserAPIKeyAuth:
    """What LiteLLM calls for each request that needs a key."""
    call: Call | None = getattr(request.state, "keeptrusts", None)
    if call is None:
        complain("door", "a request came past the door.")
        raise undecided()
    await shared().authorizer.admit(call, api_key)
    shared().spool.expect(call)
    # No value, but the key's id: stable through rotations, fit for LiteLLM's own limits, logs and metrics.
    return UserAPIKeyAuth(
        api_key=call.key_id,
        allowed_routes=["llm_api_routes"],
        metadata={"keeptrusts_decision_id": call.decision_id},
    )


# --- what it cost -----------------------------------------------------------------------------------------------------


class Usage(CustomLogger):
    """What LiteLLM tells about a request: mostly after its end, and once for each call to a provider."""

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._learn(kwargs, failed=False)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._learn(kwargs, failed=True)

    async def async_post_call_failure_hook(
        self, request_data: Any, original_exception: Any, user_api_key_dict: Any, traceback_str: str | None = None
    ) -> None:
        """The request has failed for good: what succeeded at another try does not come here."""
        spool = shared().spool
        if call := spool.call(user_api_key_dict.metadata):
            call.failure, call.is_told = status_of(original_exception), True
            spool.learned(call)

    def _learn(self, kwargs: Any, *, failed: bool) -> None:
        payload = kwargs.get("standard_logging_object") or {}
        spool = shared().spool
        call = spool.call((payload.get("metadata") or {}).get("user_api_key_auth_metadata"))
        if call is None:
            return
        provider, operation = payload.get("custom_llm_provider"), str(payload.get("call_type") or "")
        # Without a provider the model is only what a client has made up, and each would get sums of its own.
        if provider and not (failed and call.facts):
            model = str(payload.get("model") or "").removeprefix(f"{provider}/")
            operation = OPERATIONS.get(operation, operation)
            call.facts = {"provider": text(provider), "model": text(model), "operation": text(operation)}
        tokens = number(payload.get("prompt_tokens")), number(payload.get("completion_tokens"))
        if any(tokens) or not failed:
            # By the answer's id: told twice it costs once, and what took several calls costs all of them.
            call.charged[str(payload.get("id"))] = (*tokens, float(payload.get("response_cost") or 0))
        # A failed try is the end where the client went away; else there may be another.
        call.is_told = call.is_told or call.gone or not failed
        spool.learned(call)


def status_of(error: Any) -> int:
    """Return the status that LiteLLM has for an error."""
    found = str(getattr(error, "status_code", None) or getattr(error, "code", None) or "")
    return int(found) if found.isdigit() and 400 <= int(found) <= 599 else 500


# --- what is not reported yet -----------------------------------------------------------------------------------------


class Segment:
    """A file of events, locked by the process that writes or reports it. Of an event twice, the later one counts."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self.size = 0
        self.waiting: set[str] = set()
        self.settles_at = 0.0
        self._file = file

    @classmethod
    def create(cls, folder: Path) -> Segment:
        name = f"{time.time_ns()}-{secrets.token_hex(4)}"
        unseen, path = folder / f"{name}.new", folder / f"{name}.ndjson"
        file = os.open(unseen, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        # Others see it only now: what they can lock they take for a dead process's, report it and drop it.
        unseen.rename(path)
        return cls(path, file)

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """Return what a process has left that is no more; None if it is another's."""
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return cls(path, file)

    def append(self, event: dict[str, Any]) -> int:
        # Each line brings the end of the last one: what a full disk has cut short harms nothing but itself.
        line = b"\n" + json.dumps(event, separators=(",", ":")).encode()
        os.write(self._file, line)
        self.size += len(line)
        return len(line)

    def events(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for line in filter(None, self.path.read_bytes().splitlines()):
            try:
                event = json.loads(line)
                found[event["id"]] = event
            except (ValueError, KeyError, TypeError):
                complain("line", "a line of %s is unreadable.", self.path)
        return list(found.values())

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._file)


class Spool:
    """Events on disk: written by the event loop as requests end, reported and dropped by a thread of its own."""

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        self._calls: dict[str, tuple[Call, Segment | None]] = {}
        self._open: Segment | None = None
        self._closed: list[Segment] = []
        self._size = self._size_on_disk()
        # A folder that cannot be written to shall show now, not with the first request.
        Segment.create(folder).drop()

    def expect(self, call: Call) -> None:
        """Let the call be found by its decision until it has ended and all is known of it."""
        self._calls[call.decision_id] = (call, None)

    def call(self, metadata: Mapping[str, Any] | None) -> Call | None:
        """Return the call for which `custom_auth` has answered with this metadata."""
        return self._calls.get((metadata or {}).get("keeptrusts_decision_id", ""), (None, None))[0]

    def served(self, call: Call) -> None:
        """Write the request, which has ended. Where LiteLLM has not told its tokens yet, it has some seconds to."""
        with self._lock:
            if self._open is None:
                self._open = Segment.create(self._folder)
            self._write(call, self._open)
            if call.is_told:
                del self._calls[call.decision_id]
            else:
                self._calls[call.decision_id] = (call, self._open)
                self._open.waiting.add(call.decision_id)

    def learned(self, call: Call) -> None:
        """Write the request again, with what is known now. One that has not ended is written when it has."""
        with self._lock:
            _, segment = self._calls.get(call.decision_id, (call, None))
            if segment is not None:
                self._write(call, segment)
                if call.is_told:
                    segment.waiting.remove(call.decision_id)
                    del self._calls[call.decision_id]

    def ready(self) -> list[Segment]:
        """Return what may be reported now: what others have left behind, and what of ours has settled."""
        self._size = self._size_on_disk()
        with self._lock:
            if self._open and self._open.size and (len(self._closed) < FEW_SEGMENTS or self._open.size > SEGMENT_BYTES):
                self._open.settles_at = time.monotonic() + SETTLES_WITHIN
                self._closed.append(self._open)
                self._open = None
            ours = {segment.path for segment in (*self._closed, self._open) if segment}
            left = (Segment.adopt(path) for path in sorted(self._folder.glob("*.ndjson")) if path not in ours)
            self._closed += filter(None, left)
            return [segment for segment in self._closed if self._is_settled(segment)]

    def drop(self, segment: Segment) -> None:
        with self._lock:
            self._closed.remove(segment)
        segment.drop()

    def _write(self, call: Call, segment: Segment) -> None:
        if self._size >= self._limit:
            complain("full", "%s is full: what is served now is not counted.", self._folder)
            return
        try:
            self._size += segment.append(call.event())
        except OSError as error:
            complain("disk", "%s cannot be written to (%s): what is served now is not counted.", self._folder, error)

    def _is_settled(self, segment: Segment) -> bool:
        if segment.waiting and time.monotonic() < segment.settles_at:
            return False
        for decision_id in segment.waiting:
            self._calls.pop(decision_id, None)
        segment.waiting.clear()
        return True

    def _size_on_disk(self) -> int:
        return sum(entry.stat().st_size for entry in os.scandir(self._folder))


class Reporter(threading.Thread):
    """Reports what is in the spool, again and again until it is taken."""

    def __init__(self, url: str, token: str, spool: Spool) -> None:
        super().__init__(name="keeptrusts", daemon=True)
        self._url = f"{url}/gateway/v1/usage"
        self._spool = spool
        self._client = httpx.Client(timeout=REPORT_TIMEOUT, headers={"X-Keeptrusts-Gateway-Token": token})

    def run(self) -> None:
        pause = REPORT_EVERY
        while True:
            time.sleep(pause)
            try:
                done = all(self._report(segment) for segment in self._spool.ready())
            except Exception:
                logger.exception("Keeptrusts: usage cannot be reported.")
                done = False
            pause = REPORT_EVERY if done else min(2 * pause, LONGEST_PAUSE)

    def _report(self, segment: Segment) -> bool:
        """Drop the segment once all of it is taken. Half of it told twice counts once."""
        for events in batched(segment.events(), EVENTS_AT_ONCE):
            if not self._take(list(events)):
                return False
        self._spool.drop(segment)
        return True

    def _take(self, events: list[dict[str, Any]]) -> bool:
        try:
            answer = self._client.post(self._url, json={"events": events})
        except (httpx.HTTPError, OSError) as error:
            complain("report", "usage cannot be reported (%s); it is kept.", type(error).__name__)
            return False
        if answer.status_code == 200:
            if rejected := Counter(rejection["code"] for rejection in answer.json()["rejected"]):
                logger.error("Keeptrusts: rejected, and not counted: %s", dict(rejected))
            return True
        if answer.status_code == 409:
            # They were counted when we asked; told again after a change of the gateway they would count twice.
            complain("source", "the gateway is not registered with usage_source = report.")
            return True
        kind = f"report {answer.status_code}"
        complain(kind, "usage is not taken (%s %s); it is kept.", answer.status_code, answer.text[:200])
        return False


# --- one for all ------------------------------------------------------------------------------------------------------


class Keeptrusts:
    """What both names in LiteLLM's configuration share, in each of its processes."""

    def __init__(self) -> None:
        url, token = setting("KEEPTRUSTS_URL").rstrip("/"), setting("KEEPTRUSTS_GATEWAY_TOKEN")
        mebibytes = int(setting("KEEPTRUSTS_SPOOL_MEBIBYTES", "256"))
        self.spool = Spool(Path(setting("KEEPTRUSTS_SPOOL")), mebibytes * 1_048_576)
        self.authorizer = Authorizer(url, token, setting("KEEPTRUSTS_CONSUMER_GROUP", ""))
        Reporter(url, token, self.spool).start()
        if app.middleware_stack is None:
            app.add_middleware(Door, spool=self.spool)
        else:  # LiteLLM reads its configuration while it starts, when it takes no more middleware
            app.middleware_stack = Door(app.middleware_stack, self.spool)


def shared() -> Keeptrusts:
    if not hasattr(app.state, "keeptrusts"):
        app.state.keeptrusts = Keeptrusts()
    keeptrusts: Keeptrusts = app.state.keeptrusts
    return keeptrusts


shared()
usage = Usage()
