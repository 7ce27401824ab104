"""Errors of the S3 clients, translated into those of a store."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from obstore.exceptions import BaseError

from wsgi_store.errors import StoreUnavailable

Answer = TypeVar("Answer")
# Statuses below 500 of requests that may succeed later.
PASSING = {408, 429}


class Failure(Exception):
    """An error of an engine, or of the connection to it, as one line for the log."""

    def __init__(self, error: Exception) -> None:
        text, _, debug = str(error).partition("\n\nDebug source")
        status = re.search(r"status code: (\d{3})", text)
        self.status = int(status[1]) if status else 0
        said = re.search(r"<Code>(\w+)</Code>", text) or re.search(
            r'message: "([^"\n]+)"|\b(TimedOut)\b', debug
        )
        line = re.sub(r"\s+", " ", re.sub(r": *(<\?xml.*)?$", "", text, flags=re.DOTALL))
        self._code = (said[1] or said[2]) if said else None
        self._unknown = isinstance(error, NotImplementedError) or self.status == 501
        super().__init__(f"{line} ({self._code})" if said else line)

    @property
    def lasting(self) -> bool:
        """Whether the same request will fail again, as with wrong keys or a missing bucket."""
        # An operator will set a wrong clock right.
        return (
            300 <= self.status < 500 and self.status not in PASSING and self._code != "RequestTimeTooSkewed"
        )

    @property
    def refusal(self) -> str | None:
        """The code of an error that no repetition cures; None for other errors."""
        if self.lasting or self._unknown:
            return self._code or str(self.status or "NotImplemented")
        return None


@contextmanager
def asking(doing: str, **evidence: str) -> Iterator[None]:
    """Translate what obstore raises into StoreUnavailable with a Failure as its cause."""
    try:
        yield
    # obstore raises FileNotFoundError for a missing object; callers that expect it catch it themselves.
    except (BaseError, FileNotFoundError, NotImplementedError) as error:
        # The message is for clients: keys, hosts and bodies stay in the cause.
        raise StoreUnavailable(doing, **evidence) from Failure(error)


def refusal_of(error: StoreUnavailable) -> str | None:
    """Return the code of the error of an engine that no repetition cures; None for other errors."""
    failure = error.__cause__
    return failure.refusal if isinstance(failure, Failure) else None  # pylint: disable=no-member


def asked_again(ask: Callable[[], Answer], soon: float) -> Answer:
    """Ask a second time if the first one raises StoreUnavailable within `soon` seconds.

    obstore repeats most requests, but none whose response breaks off in its body. An engine that hangs is
    asked once, and so is one that refuses.
    """
    end = time.monotonic() + soon
    try:
        return ask()
    except StoreUnavailable as error:
        if refusal_of(error) or time.monotonic() >= end:
            raise
    return ask()
