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
from wsgi_store.errors import StoreUnavailable, Unreachable, WSGIStoreError

T = TypeVar("T")

# The longest pause, in seconds, unless the server asks for a longer one by Retry-After.
LONGEST_PAUSE = 30.0
# The longest Retry-After that the client obeys, in seconds; after a longer one it gives up.
PATIENCE = 120.0
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

    def repeat(self, attempt: Callable[[], T], again: bool = True) -> T:
        """Call `attempt` until it succeeds; raises its last failure.

        Only Unreachable and StoreUnavailable are tried again, and nothing without `again`.
        """
        pauses = self.pauses() if again else iter(())
        while True:
            try:
                return attempt()
            except (Unreachable, StoreUnavailable) as error:
                pause, asked = next(pauses, None), _asked(error)
                if pause is None or asked > PATIENCE or _is_final(error.__cause__):
                    raise
                pause = max(pause, asked)
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
