"""Whether a service is ready: checked by one thread at a time, and at most once a second."""

import time
from collections.abc import Callable
from threading import Lock

from wsgi_store.errors import StoreUnavailable

# Seconds for which a result is valid. A check writes and syncs, and anybody may request one.
REMEMBERED = 1.0


class Readiness:
    """The result of a check, remembered for a second by this process."""

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check
        self._checking = Lock()
        self._until = float("-inf")
        self._failure: StoreUnavailable | None = None

    def require(self) -> None:
        """Raise StoreUnavailable if the check does so, or takes longer than a second."""
        if time.monotonic() >= self._until:
            # Other requests wait for the result, but not for a disk that hangs.
            if not self._checking.acquire(timeout=REMEMBERED):  # pylint: disable=consider-using-with
                raise StoreUnavailable("the store is not responding")
            try:
                if time.monotonic() >= self._until:
                    self._failure = self._failed()
                    self._until = time.monotonic() + REMEMBERED
            finally:
                self._checking.release()
        failure = self._failure
        if failure is not None:
            # Each request gets an exception of its own.
            raise StoreUnavailable(failure.message, **failure.evidence) from failure.__cause__

    def _failed(self) -> StoreUnavailable | None:
        try:
            self._check()
        except StoreUnavailable as error:
            return error
        return None
