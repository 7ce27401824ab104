"""Requests to a server: answers as JSON or as bodies to read, refusals as exceptions."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import TIMEOUT_MAX
from typing import Any

from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError
from urllib3.util import Retry

from wsgi_store.client.address import base, credentials, parse
from wsgi_store.client.connection import RAW, pool_to, reason
from wsgi_store.client.redirects import follow
from wsgi_store.client.refusals import refusal
from wsgi_store.client.retries import Retries
from wsgi_store.client.schemes import HANDSHAKE, WrongScheme, other_scheme
from wsgi_store.client.source import Source, SourceFailed
from wsgi_store.errors import ConfigError, NotFound, UnexpectedAnswer, Unreachable

# Bytes that are read from or written to a connection at once.
PIECE = 1 << 20
# Bytes of the longest JSON that is read; a page of the listing has 1000 entries.
LONGEST_JSON = 16 << 20


class Transport:
    """A server and its pool of connections; safe to use by many threads."""

    def __init__(
        self, url: str, token: str | None, *, timeout: float, connections: int, retries: Retries
    ) -> None:
        if not 0 < timeout <= TIMEOUT_MAX:
            raise ConfigError("the timeout: expected a number of seconds greater than 0")
        place = parse(url)
        self.base = base(place)
        """The URL of the server without credentials and final slash."""
        self.retries = retries
        self._seconds = timeout
        self._timeout = Timeout(connect=timeout, read=timeout)
        self._path = (place.path or "").rstrip("/")
        self._headers = {"User-Agent": "wsgi_store", **credentials(place, token)}
        self._options = {
            "timeout": self._timeout,
            "retries": Retry(False, redirect=False),  # made once: urllib3 would make one for each request
            "blocksize": PIECE,
        }
        self._pool, for_proxy = pool_to(place, maxsize=connections, **self._options)
        # Whether the server speaks the scheme of its URL; a proxy hides that.
        self._is_known = self._pool.proxy is not None
        if for_proxy is not None:
            self._path = self.base
            self._headers.update(for_proxy)

    def close(self) -> None:
        """Close the idle connections, and end the pauses before repetitions."""
        self.retries.close()
        self._pool.close()

    def ask(
        self,
        method: str,
        path: str,
        body: Source | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Like `once`, but repeats the request where that may help."""
        again = not isinstance(body, Source) or body.rewindable
        return self.retries.repeat(lambda: self.once(method, path, body, headers), again)

    def once(
        self,
        method: str,
        path: str,
        body: Source | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a request and return its JSON, of HEAD the header fields.

        Raises the failure that the server reports, Unreachable, and what reading `body` raises.
        """
        if isinstance(body, Source):
            body.rewind()
        answer = self.send(method, path, body, headers=headers)
        try:
            if method == "HEAD":
                return {name.lower(): value for name, value in answer.headers.items()}
            return self.json(answer)
        finally:
            answer.close()

    def send(
        self,
        method: str,
        path: str,
        body: Source | bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        redirect: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request once and return its answer, for the caller to read and to close.

        Raises the failure that the server reports, and Unreachable. With `redirect` the answer
        may be a 307.
        """
        fields = {**self._headers, **(headers or {})}
        if isinstance(body, bytes):
            fields["Content-Length"] = str(len(body))
        elif body is not None and body.size is not None:
            fields["Content-Length"] = str(body.size - body.done)
        answer = self._answered(method, f"{self._path}/{path}", body, fields)
        if answer.length_remaining is None and not answer.headers.get("Transfer-Encoding"):
            # http.client accepts a head that was cut off.
            answer.close()
            raise Unreachable(f"cannot reach {self.base}: the answer was cut off")
        if answer.status in (200, 201, 206) or (redirect and answer.status == 307):
            return answer
        try:
            is_problem = answer.headers.get("Content-Type") == "application/problem+json"
            failure = refusal(self.base, answer, self.json(answer) if is_problem and method != "HEAD" else {})
        finally:
            answer.close()
        if isinstance(failure, NotFound):
            asked = f"{self.base}/{path}".partition("?")[0]
            raise NotFound(f"{asked} answered 404: there is no store at {self.base}")
        raise failure

    def _answered(
        self, method: str, path: str, body: Source | bytes | None, fields: dict[str, str]
    ) -> BaseHTTPResponse:
        data: Any = body  # of a file urllib3 needs only `read`

        def ask(timeout: Timeout) -> BaseHTTPResponse:
            with self.broken():
                return self._pool.urlopen(method, path, body=data, headers=fields, timeout=timeout, **RAW)

        if self._is_known:
            return ask(self._timeout)
        self._is_known = True
        # A server without TLS waits for a request, and would keep the handshake waiting to the timeout.
        hurried = Timeout(connect=min(HANDSHAKE, self._seconds), read=self._seconds)
        try:
            return ask(hurried if self._pool.scheme == "https" else self._timeout)
        except Unreachable as error:
            cause = error.__cause__
            if (scheme := other_scheme(self._pool, cause)) is not None:
                self._is_known = False
                failure = f"cannot reach {self.base}: the server speaks {scheme}, use {scheme}://"
                raise Unreachable(failure) from WrongScheme()
            if self._pool.scheme == "http" or not isinstance(cause, ConnectTimeoutError):
                raise
            return ask(self._timeout)

    def follow(self, answer: BaseHTTPResponse) -> BaseHTTPResponse | None:
        """Follow a redirection, without credentials; return None if it leads to no file."""
        peer = None if self._pool.proxy else getattr(answer.connection, "peer", None)
        location, agent = answer.headers.get("Location", ""), self._headers["User-Agent"]
        return follow(location, self.base.partition(":")[0], peer, agent, self._options)

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Translate failures of a connection to Unreachable."""
        try:
            yield
        except HTTPError as error:
            raise Unreachable(f"cannot reach {self.base}: {reason(error)}") from error
        except SourceFailed as failure:
            raise failure.error from None

    def strange(self) -> UnexpectedAnswer:
        """Return the failure for an answer that this service never gives."""
        return UnexpectedAnswer(f"{self.base} is not a wsgi_store server: its answer makes no sense")

    def json(self, answer: BaseHTTPResponse) -> dict[str, Any]:
        """Read the JSON object in an answer; raises UnexpectedAnswer and Unreachable."""
        body = bytearray()
        with self.broken():
            # `read` would not notice that a body was cut off.
            for data in answer.stream(PIECE):
                body += data
                if len(body) > LONGEST_JSON:
                    break
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise self.strange()
        return told
