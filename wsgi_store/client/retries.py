"""When a failed request is tried again, and how long the client waits before that."""

import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator
from threading import Event, Lock
from typing import TypeVar

from urllib3.exceptions import ClosedPoolError, ConnectTimeoutError, NewConnectionError, SSLError

from wsgi_store.client.schemes import WrongScheme
from wsgi_store.errors import (
    IncompleteBody,
    OffsetMismatch,
    RequestTimeout,
    StoreUnavailable,
    Unreachable,
    UploadLocked,
    WSGIStoreError,
)

T = TypeVar("T")

# The longest pause, in seconds, unless the server asks for a longer one by Retry-After.
LONGEST_PAUSE = 30.0
# The longest Retry-After that the client obeys, in seconds; after a longer one it gives up.
PATIENCE = 120.0
# Seconds for which another request may send or store the same file without a sign of progress, and between
# two looks at it if the server does not say.
OTHERS = 3600.0
LOOK = 1.0
PASSING = (Unreachable, StoreUnavailable, RequestTimeout, IncompleteBody, UploadLocked, OffsetMismatch)
log = logging.getLogger(__name__)


class Retries:
    """Tries again what may succeed later; safe to use by many threads.

    It tries `count` times more, after pauses that begin at `first_pause` seconds, double, and vary
    at random, so that clients of a server that restarts do not all come back at once.
    """

    def __init__(self, count: int, first_pause: float) -> None:
        self._count = count
        self._first_pause = first_pause
        self._closed = Event()
        self._lock = Lock()
        self._logged: tuple[str, float] = ("", 0.0)

    def close(self) -> None:
        """End all pauses."""
        self._closed.set()

    def repeat(self, attempt: Callable[[], T], again: bool = True, reached: Callable[[], int] = int) -> T:
        """Call `attempt` until it succeeds; raises its last failure.

        Only what may pass is tried again, and nothing without `again`. `reached` tells how far the work is:
        when that has grown, the count begins anew.
        """
        course = _Course(self.pauses, reached)
        while True:
            try:
                return attempt()
            except PASSING as error:
                waited, pause, asked = course.waits, course.pause(error), _asked(error)
                if (
                    not (again and self._count)
                    or pause is None
                    or asked > PATIENCE
                    or _is_final(error.__cause__)
                ):
                    raise
                pause = max(pause, asked)
                if not (waited and course.waits):
                    self._log(str(error), pause)
                if self.pause(pause):
                    raise

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each repetition."""
        for number in range(self._count):
            longest = min(self._first_pause * 2**number, LONGEST_PAUSE)
            yield random.uniform(longest / 2, longest)

    def pause(self, seconds: float) -> bool:
        """Wait; return whether the client was closed meanwhile."""
        return self._closed.wait(seconds)

    def _log(self, failure: str, pause: float) -> None:
        """Log why the client waits, once for all threads that wait for the same reason."""
        with self._lock:
            text, until = self._logged
            if failure == text and time.monotonic() < until:
                return
            self._logged = failure, time.monotonic() + pause
        log.warning("%s: trying again in %.1f s", failure, pause)


class _Course:
    """The pauses of one piece of work, which begin anew as it goes on."""

    def __init__(self, pauses: Callable[[], Iterator[float]], reached: Callable[[], int]) -> None:
        self._anew = pauses
        self._pauses = pauses()
        self._reached = reached
        self._before = reached()
        self._since: float | None = None

    @property
    def waits(self) -> bool:
        """Whether another request does the work, as far as is known."""
        return self._since is not None

    def pause(self, error: WSGIStoreError) -> float | None:
        """Return how many seconds to wait after a failure; None if nothing helps."""
        if (now := self._reached()) > self._before:
            self._before, self._pauses, self._since = now, self._anew(), None
        if not isinstance(error, UploadLocked):
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()
        if self._since is not None and time.monotonic() - self._since < OTHERS:
            return LOOK
        return next(self._pauses, None)


def _asked(error: WSGIStoreError) -> float:
    """The seconds that the server asked to wait."""
    match error.evidence:
        case {"retry_after": float() as seconds}:
            return seconds
    return 0.0


def _is_final(cause: BaseException | None) -> bool:
    """Whether no repetition will help."""
    # A server that does not accept a connection for so long is away; one that refuses it may restart.
    late = isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError)
    distrusted = isinstance(cause, SSLError) and isinstance(cause.args[0], ssl.SSLCertVerificationError)
    return late or distrusted or isinstance(cause, ClosedPoolError | WrongScheme)
