"""One answer for all threads that ask the same at once."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """A function that threads call at once: each gets the result of a call that began after it asked.

    Threads that ask while a call is under way wait for its end, and share the next one.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._calling = Lock()
        self._lock = Lock()
        self._next: Future[T] | None = None

    def __call__(self) -> T:
        """Return the result; raises what the function raises."""
        with self._lock:
            shared = self._next
            is_first = shared is None
            if shared is None:
                shared = self._next = Future()
        if is_first:
            with self._calling:
                # Whoever asks from now on may want to know what this call does not see any more.
                with self._lock:
                    self._next = None
                try:
                    shared.set_result(self._call())
                except BaseException as error:  # pylint: disable=broad-exception-caught  # raised below
                    shared.set_exception(error)
        return shared.result()
