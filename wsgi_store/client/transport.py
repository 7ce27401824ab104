"""Requests to a server, repeated where a failure may pass; what it refuses as exceptions."""

import json
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import TIMEOUT_MAX, Event, Lock
from typing import Any, TypeVar

from urllib3 import BaseHTTPResponse, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as SlowError,
)
from urllib3.util import Retry
from urllib3.util.wait import wait_for_read

from wsgi_store.client.address import RAW, base, connect, credentials, parse
from wsgi_store.client.redirects import follow
from wsgi_store.client.refusals import refusal
from wsgi_store.client.schemes import HANDSHAKE, WrongScheme, other_scheme
from wsgi_store.client.source import Source, SourceFailed
from wsgi_store.errors import ConfigError, NotFound, StoreUnavailable, UnexpectedAnswer, Unreachable

T = TypeVar("T")

BLOCK = 1 << 20
# No answer but a blob is longer: a page of the listing has 1000 entries.
LONGEST = 16 << 20
# Pauses before a request is repeated: the first one, and the longest, in seconds.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
# A server that wants to be left alone for longer is not waited for.
PATIENCE = 120.0
log = logging.getLogger(__name__)


class _SecureConnection(HTTPSConnection):
    """A connection by TLS that knows whom it leads to."""

    peer = ""

    def connect(self) -> None:
        """Connect anew."""
        super().connect()  # pylint: disable=no-member  # it is no class where Python lacks TLS
        if self.proxy is None:
            self.peer = self.sock.getpeername()[0]


class _Connection(HTTPConnection):
    """A connection that sends as few segments as it can, and no more of a body that was refused."""

    peer = ""
    _cut = False
    _head: bytes | None = None

    def connect(self) -> None:
        """Connect anew, with nothing sent."""
        super().connect()
        if self.proxy is None:
            self.peer = self.sock.getpeername()[0]
        self._cut = False

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request."""
        self._head = b""
        super().request(*args, **options)
        if self._head:
            super().send(self._head)
        self._head = None

    def send(self, data: Any) -> None:
        """Send a part; urllib3 takes a broken pipe for the end of sending and reads the answer."""
        if self._head == b"":
            # With the beginning of the body, if there is one: each segment wakes the server up.
            self._head = data
            return
        if self._head:
            data, self._head = self._head + data, None
        elif self.sock is not None and wait_for_read(self.sock, 0):
            # The answer to half a request is a refusal.
            self._cut = True
            raise BrokenPipeError
        super().send(data)

    @property
    def is_connected(self) -> bool:
        """Whether another request can be sent; not behind half a body."""
        return super().is_connected and not self._cut


class Transport:
    """A server, below a URL, with a pool of connections to it; safe to use by many threads."""

    def __init__(
        self, url: str, token: str | None, *, timeout: float, retries: int, connections: int
    ) -> None:
        if not 0 < timeout <= TIMEOUT_MAX:
            raise ConfigError("the timeout: expected a number of seconds, more than 0")
        place = parse(url)
        self.base = base(place)
        """Its URL without credentials and final slash."""
        self.retries = retries
        self._closed = Event()
        self._seconds = timeout
        self._timeout = Timeout(connect=timeout, read=timeout)
        self._lock = Lock()
        self._told: tuple[str, float] = ("", 0.0)
        self._path = (place.path or "").rstrip("/")
        self._headers = {"User-Agent": "wsgi_store", **credentials(place, token)}
        self._options = {
            "timeout": self._timeout,
            "retries": Retry(False, redirect=False),  # made here once, and not for each request
            "blocksize": BLOCK,
        }
        self._pool, by_proxy = connect(place, maxsize=connections, **self._options)
        # Whether it speaks what its URL says; through a proxy nobody can tell.
        self._is_known = self._pool.proxy is not None
        if by_proxy is not None:
            self._path = self.base
            self._headers.update(by_proxy)
        self._pool.ConnectionCls = _Connection if self._pool.scheme == "http" else _SecureConnection

    def close(self) -> None:
        """Close the connections that are not in use, and end the pauses before requests are repeated."""
        self._closed.set()
        self._pool.close()

    def ask(self, method: str, path: str, source: Source | None = None) -> dict[str, Any]:
        """Send a request and read its JSON, {} where there is no body; repeats it while that may help.

        Raises the failure that the server tells, Unreachable, and what reading `source` raises.
        """

        def attempt() -> dict[str, Any]:
            if source is not None:
                source.rewind()
            answer = self.send(method, path, source)
            try:
                if method == "HEAD":
                    return {name.lower(): value for name, value in answer.headers.items()}
                return self._json(answer)
            finally:
                answer.close()

        return self.repeat(attempt, source is None or source.rewindable)

    def repeat(self, attempt: Callable[[], T], again: bool = True) -> T:
        """Try until it goes well; raises what the last attempt did.

        What the client did wrong is not tried again, nor is what takes more than time to mend.
        """
        pauses = self.pauses() if again else iter(())
        while True:
            try:
                return attempt()
            except (Unreachable, StoreUnavailable) as error:
                pause = next(pauses, None)
                asked = float(str(error.evidence.get("retry_after", 0)))
                # Who cannot be connected to in that long is not there; a refusal may be a restart.
                cause = error.__cause__
                late = isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError)
                # Nor does a certificate get better.
                distrusted = isinstance(cause, SSLError) and isinstance(
                    cause.args[0], ssl.SSLCertVerificationError
                )
                # And who closed the client wants no more of it.
                final = late or distrusted or isinstance(cause, ClosedPoolError | WrongScheme)
                if pause is None or asked > PATIENCE or final:
                    raise
                pause = max(pause, asked)
                self._tell(str(error), pause)
                if self.pause(pause):
                    raise

    def _tell(self, failure: str, pause: float) -> None:
        """Log why it is waited; once for all threads that wait for the same."""
        with self._lock:
            text, until = self._told
            if failure == text and time.monotonic() < until:
                return
            self._told = failure, time.monotonic() + pause
        log.warning("%s: trying again in %.1f s", failure, pause)

    def pause(self, seconds: float) -> bool:
        """Wait; returns whether it was closed meanwhile."""
        return self._closed.wait(seconds)

    def pauses(self) -> Iterator[float]:
        """How long to wait before each repetition: ever longer, and not all clients alike."""
        for number in range(self.retries):
            longest = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
            yield random.uniform(longest / 2, longest)

    def send(
        self,
        method: str,
        path: str,
        source: Source | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        redirect: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request once; returns an answer whose body is still to be read, and which is to be closed.

        Raises the failure that the server tells, and Unreachable. With `redirect` the answer
        may be a 307.
        """
        fields = {**self._headers, **(headers or {})}
        if source is not None and source.size is not None:
            fields["Content-Length"] = str(source.size)
        body: Any = source  # urllib3 wants of a file no more than its `read`
        answer = self._answered(method, f"{self._path}/{path}", body, fields)
        if answer.length_remaining is None and not answer.headers.get("Transfer-Encoding"):
            # http.client takes a head that was cut for a whole one.
            answer.close()
            raise Unreachable(f"cannot reach {self.base}: the answer was cut")
        if answer.status in (200, 206) or (redirect and answer.status == 307):
            return answer
        try:
            is_problem = answer.headers.get("Content-Type") == "application/problem+json"
            failure = refusal(
                self.base, answer, self._json(answer) if is_problem and method != "HEAD" else {}
            )
        finally:
            answer.close()
        if type(failure) is NotFound:  # pylint: disable=unidiomatic-typecheck  # no blob is another thing
            asked = f"{self.base}/{path}".partition("?")[0]
            raise NotFound(f"{asked} answered 404: there is no store at {self.base}")
        raise failure

    def _answered(self, method: str, path: str, body: Any, fields: dict[str, str]) -> BaseHTTPResponse:
        def ask(timeout: Timeout) -> BaseHTTPResponse:
            with self.broken():
                return self._pool.urlopen(method, path, body=body, headers=fields, timeout=timeout, **RAW)

        if self._is_known:
            return ask(self._timeout)
        self._is_known = True
        # A server that awaits no handshake keeps still until it has waited long enough.
        hurried = Timeout(connect=min(HANDSHAKE, self._seconds), read=self._seconds)
        try:
            return ask(hurried if self._pool.scheme == "https" else self._timeout)
        except Unreachable as error:
            cause = error.__cause__
            if (scheme := other_scheme(self._pool, cause)) is not None:
                self._is_known = False
                failure = f"cannot reach {self.base}: the server speaks {scheme}, so the URL begins with"
                raise Unreachable(f"{failure} {scheme}://") from WrongScheme()
            if self._pool.scheme == "http" or not isinstance(cause, ConnectTimeoutError):
                raise
            return ask(self._timeout)

    def follow(self, answer: BaseHTTPResponse) -> BaseHTTPResponse | None:
        """Ask where a redirection leads to, without credentials; None where no file is sent there."""
        peer = None if self._pool.proxy else getattr(answer.connection, "peer", None)
        location, agent = answer.headers.get("Location", ""), self._headers["User-Agent"]
        return follow(location, self.base.partition(":")[0], peer, agent, self._options)

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Translate what a connection that is used raises to Unreachable."""
        try:
            yield
        except HTTPError as error:
            raise Unreachable(f"cannot reach {self.base}: {_plainly(error)}") from error
        except SourceFailed as failure:
            raise failure.error from None

    def strange(self) -> UnexpectedAnswer:
        """The failure of an answer that this service does not give."""
        return UnexpectedAnswer(f"{self.base} is no wsgi_store: its answer is not understood")

    def _json(self, answer: BaseHTTPResponse) -> dict[str, Any]:
        body = bytearray()
        with self.broken():
            # Pieces, and not `read`: that one does not tell a body that was cut from one that ended.
            for data in answer.stream(BLOCK):
                body += data
                if len(body) > LONGEST:
                    break
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise self.strange()
        return told


def _plainly(error: HTTPError) -> str:
    """What a person can use of urllib3's words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, SlowError):
        return "no answer in time"
    return str(error.args[0] if isinstance(error, ProtocolError) else error)
