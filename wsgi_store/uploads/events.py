"""What becomes of uploads, for the log and for metrics."""

import enum
from collections.abc import Callable


class Event(enum.Enum):
    """What became of an upload."""

    CREATED = "created"
    RESUMED = "resumed"
    """A creation found the unfinished upload of the same file."""
    TAKEN_OVER = "taken over"
    """From a request that held it and received no bytes any more."""
    FINISHED = "finished"
    EXPIRED = "expired"
    REMOVED = "removed"


# Called with the id of the upload, and the bytes that it has or had.
EventHandler = Callable[[Event, str, int], object]


def ignored(_event: Event, _identity: str, _size: int) -> None:
    """Ignore an event."""
