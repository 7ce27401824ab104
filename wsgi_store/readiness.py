"""Whether a service is ready, looked at by one at a time, and not again and again."""

import time
from collections.abc import Callable
from threading import Lock

from wsgi_store.errors import StoreUnavailable

# Seconds for which an outcome is good: looking writes, syncs and asks, and anybody may have it done.
REMEMBERED = 1.0


class Readiness:
    """The outcome of a look, remembered for a second by this process."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._looking = Lock()
        self._until = float("-inf")
        self._failure: StoreUnavailable | None = None

    def require(self) -> None:
        """Raise StoreUnavailable if the look does so, or does not end."""
        if time.monotonic() >= self._until:
            # Who comes meanwhile waits for its outcome, but not for as long as a disk that hangs.
            if not self._looking.acquire(timeout=REMEMBERED):  # pylint: disable=consider-using-with
                raise StoreUnavailable("the store does not answer")
            try:
                if time.monotonic() >= self._until:
                    self._failure = self._failed()
                    self._until = time.monotonic() + REMEMBERED
            finally:
                self._looking.release()
        failure = self._failure
        if failure is not None:
            # A new one, for this one is another request's.
            raise StoreUnavailable(failure.message, **failure.evidence) from failure.__cause__

    def _failed(self) -> StoreUnavailable | None:
        try:
            self._look()
        except StoreUnavailable as error:
            return error
        return None
