"""What the uploads of a store take and were promised, and when they have to go."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from wsgi_store.errors import StoreError, TooManyUploads
from wsgi_store.filesystem import disk_errors
from wsgi_store.store.contract import Store
from wsgi_store.store.disk.capabilities import UPLOADS
from wsgi_store.uploads import removal
from wsgi_store.uploads.events import Event, EventHandler, ignored
from wsgi_store.uploads.listed import Listed, look, owners, paths

# Seconds for which a look at all uploads is good, and how many times longer than it took.
AGE, AGE_FACTOR = 1.0, 100
# How many times longer than a look for new ones took it is before the next.
PAUSE_FACTOR = 10
# Seconds within which a file system may give two changes the same time.
TICK = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """What uploads may take."""

    expires: float = 86400.0
    """Seconds for which an upload is kept after its last byte, and a result after its end."""
    count: int = 1000
    """Unfinished uploads of one owner, and results of finished ones."""
    size: int | None = None
    """Bytes that are received or announced for unfinished uploads of one owner."""


@dataclass(frozen=True, slots=True)
class View:
    """The uploads as they were found."""

    seen: dict[str, Listed] = field(default_factory=dict)
    """By their paths."""
    promised: dict[str, int] = field(default_factory=dict)
    """The promised bytes of each upload, by its path."""
    total: int = 0
    stamp: int = -1
    """When uploads had last been created or removed by then, in nanoseconds; -1 if that is not certain."""
    begun: float = -math.inf
    until: float = -math.inf
    """When the uploads are to be looked at again; both are by time.monotonic."""
    pause: float = -math.inf
    """Until when new ones are not looked for."""


class Room:
    """The uploads in a directory, with the room that they take and that was promised to them.

    Other processes change them, so this looks at the disk from time to time, for a hundredth of the time at
    most. The time of the directory shows whether an upload was created or removed.
    """

    def __init__(self, directory: str, told: EventHandler = ignored) -> None:
        self.directory = directory
        self._told = told
        self._lock = Lock()
        self._last = View()

    def promised(self, besides: str | None = None) -> int:
        """Return how many bytes uploads were promised, apart from the one with this path."""
        view = self._view()
        return view.total - view.promised.get(besides or "", 0)

    def make_room(self) -> None:
        """Remove expired uploads, and look at the others again."""
        with suppress(StoreError):  # a shortage is the worse news
            if self.sweep():
                self._view(whole=True)

    def sweep(
        self, *, older: float = math.inf, receipts: int | None = None, dry_run: bool = False
    ) -> list[Listed]:
        """Remove expired uploads, and return them; raises StoreError.

        `older` overrides the times of the uploads if they are longer, in seconds after the last byte. Of the
        results, each owner keeps the last `receipts`.
        """
        now = time.time()
        view = self._view(whole=True)
        gone = []
        with disk_errors("cannot sweep the uploads"):
            for one in view.seen.values():
                if min(one.expires, one.modified + older) <= now:
                    # It may be damaged, removed at this moment, or not ours.
                    with suppress(OSError, ValueError):
                        if removal.expire(one.path, now, older=older, dry_run=dry_run):
                            gone.append(one)
                            if not dry_run:
                                self._told(Event.EXPIRED, os.path.basename(one.path), one.size)
            if not dry_run and view.stamp:
                if receipts is not None:
                    _forget(view, receipts)
                removal.tidy(self.directory, now)
        return gone

    def require(self, limits: Limits, path: str, size: int, *, new: bool = False) -> None:
        """Raise TooManyUploads if an owner may not have this upload, of `size` bytes, beside its others."""
        if limits.size is None and not new:
            return
        own = os.path.dirname(path) + "/"
        for whole in (False, True):  # nothing is refused after an old look
            seen = self._view(whole=whole).seen
            others = [one for one in seen.values() if one.path.startswith(own) and one.path != path]
            unfinished = [one for one in others if not one.done]
            total = sum(one.size + one.missing for one in unfinished) + size
            many = new and len(unfinished) >= limits.count
            if not many and (limits.size is None or total <= limits.size):
                return
        if many:
            raise TooManyUploads("finish or delete another upload first", limit=limits.count)
        raise TooManyUploads(
            "your unfinished uploads would take too much room", limit_bytes=limits.size, needed=total
        )

    def refresh(self) -> None:
        """Look for uploads that others have created by now."""
        self._view(exact=True)

    def unfinished(self) -> list[Listed]:
        """Return the unfinished uploads of all owners."""
        return [one for one in self._view().seen.values() if not one.done]

    def _view(self, *, whole: bool = False, exact: bool = False) -> View:
        """Return an old view if it will do; `whole` asks for a new look at all uploads."""
        asked = time.monotonic()
        view = self._last
        if not whole:
            if not exact and asked < view.pause:
                return view
            if asked < view.until and _stamp(self.directory) == view.stamp:
                return view
        # Only who needs a new look waits for the one that another thread is taking.
        if not self._lock.acquire(blocking=whole or exact):  # pylint: disable=consider-using-with
            return view
        try:
            if self._last.begun < asked:
                self._last = self._look(whole or asked >= view.until)
            return self._last
        finally:
            self._lock.release()

    def _look(self, whole: bool) -> View:
        """Look for uploads that are new, or at all of them."""
        begun, last = time.monotonic(), self._last
        stamp = _stamp(self.directory)
        if abs(time.time() - stamp / 1e9) < TICK:
            stamp = -1
        seen = {}
        for path in _paths(self.directory):
            one = last.seen.get(path)
            if one is None or whole:
                try:
                    one = look(path, one.announced if one else None)
                except (OSError, ValueError):  # it is damaged, removed at this moment, or not ours
                    continue
            seen[path] = one
        now = time.time()
        promised = {path: size for path, one in seen.items() if (size := one.promised(now))}
        end = time.monotonic()
        return View(
            seen,
            promised,
            sum(promised.values()),
            stamp,
            begun,
            end + max(AGE, AGE_FACTOR * (end - begun)) if whole else last.until,
            end + PAUSE_FACTOR * (end - begun),
        )


def directory_of(store: Store) -> str:
    """Return the directory of the uploads of a store, on the file system of its staged files."""
    return os.path.join(os.path.dirname(store.staging_directory), UPLOADS)


def _stamp(directory: str) -> int:
    """Return when uploads were last created or removed, in nanoseconds since the epoch; 0 if never."""
    try:
        # On most servers there are none, and an exception would take as long as the rest of the check.
        return os.stat(directory).st_mtime_ns if os.access(directory, os.F_OK) else 0
    except OSError:
        return 0


def _paths(directory: str) -> Iterator[str]:
    with suppress(OSError):
        for own in owners(directory):
            with suppress(OSError):
                yield from paths(own)


def _forget(view: View, receipts: int) -> None:
    """Remove the oldest results of each owner that has more of them."""
    done: dict[str, list[Listed]] = {}
    for one in view.seen.values():
        if one.done:
            done.setdefault(os.path.dirname(one.path), []).append(one)
    for results in done.values():
        results.sort(key=lambda one: one.modified, reverse=True)
        for one in results[receipts:]:
            with suppress(OSError):
                removal.remove(one.path)
