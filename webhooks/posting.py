"""One POST of a notice: to the very address that was looked up, within a deadline for everything, no redirect followed.

httpcore, of which httpx is made, because it lets us make the connection ourselves; nothing of the environment (proxies,
.netrc) is used.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import certifi
import httpcore

from audit.redaction import redact
from webhooks import addresses
from webhooks.addresses import Refused, Resolver

# Looking up, connecting, TLS, sending and reading, all together.
DEADLINE: Final = 5.0
# So much of an answer is read, and so much of that kept.
MOST_READ: Final = 64 * 1024
MOST_KEPT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt. error: why it counts as failed; "" where the notice has arrived."""

    status: int | None
    error: str
    duration_ms: int
    text: str = ""

    @property
    def arrived(self) -> bool:
        return not self.error


def post(url: str, body: str, headers: Mapping[str, str], *, resolver: Resolver | None = None) -> Answer:
    """Post `body` and return what came of it, after DEADLINE seconds at most. It never raises.

    A status 2xx means: arrived, whatever becomes of the rest of the answer, of which nothing is needed.
    """
    started = time.monotonic()
    status: int | None = None
    content = bytearray()
    error = ""
    try:
        target = addresses.parse(url)
        found = addresses.look_up(target, resolver=resolver)
        connection = _Connecting(found, started + DEADLINE)
        with httpcore.ConnectionPool(
            ssl_context=_trust(), network_backend=connection, max_connections=1, retries=0
        ) as pool:
            place = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
            sent = {
                "Host": target.authority,
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "Connection": "close",
                "User-Agent": "Keeptrusts",
                **headers,
            }
            with pool.stream("POST", place, headers=list(sent.items()), content=body.encode()) as response:
                status = response.status
                _read_some(response.iter_stream(), content)
    except Refused as refused:
        error = str(refused)
    except (httpcore.TimeoutException, TimeoutError):
        error = f"No answer within {DEADLINE:.0f} s."
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as problem:
        error = f"The connection failed: {problem or type(problem).__name__}"
    duration = int((time.monotonic() - started) * 1000)
    text = redact(bytes(content).decode(errors="replace").replace("\x00", ""))[:MOST_KEPT]
    return Answer(status, _failure(status, error)[:300], duration, text)


def _failure(status: int | None, error: str) -> str:
    if status is None:
        return error
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return ""
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return f"Answered {status}: redirects are not followed."
    return f"Answered {status}."


def _read_some(chunks: Iterable[bytes], content: bytearray) -> None:
    """Read until there is enough. What is left, nobody needs: the connection is closed."""
    read = 0
    for chunk in chunks:
        content += chunk[: MOST_KEPT * 4 - len(content)]
        read += len(chunk)
        if read >= MOST_READ:
            return


@cache
def _trust() -> ssl.SSLContext:
    """Whom to believe: what the system trusts (and SSL_CERT_FILE names), and Mozilla's list where it has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _Connecting(httpcore.NetworkBackend):
    """Connects to addresses that were looked up before, whatever name is asked for; the name stays the TLS one's."""

    def __init__(self, found: list[str], deadline: float) -> None:
        self._found = found
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failed: Exception | None = None
        for number, address in enumerate(self._found):
            # The time that is left is shared, so that one address that swallows everything leaves some to the next.
            left = _left(self._deadline) / (len(self._found) - number)
            try:
                stream = self._backend.connect_tcp(address, port, timeout=left, socket_options=socket_options)
                return _Timed(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("no address")


class _Timed(httpcore.NetworkStream):
    """A connection on which every step has only the time that is left: who drips is cut off like who is silent."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Not the stream's own: it gives every piece that gets through the whole time again.
        socket = self._stream.get_extra_info("socket")
        while buffer:
            socket.settimeout(_left(self._deadline))
            buffer = buffer[socket.send(buffer) :]

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, timeout=_left(self._deadline))
        return _Timed(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is up")
    return left
