"""A bucket that is a store: its marker is checked before any other object is used."""

import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError

from wsgi_store.errors import StoreUnavailable, WrongStore
from wsgi_store.store.bucket.client import Bucket, Client
from wsgi_store.store.bucket.engine import Engine
from wsgi_store.store.bucket.failures import Failure, asked_again, asking
from wsgi_store.store.bucket.keys import BEFORE_BLOBS
from wsgi_store.store.bucket.lock import locked
from wsgi_store.store.bucket.shared import Shared
from wsgi_store.store.contract import Remote
from wsgi_store.store.marker import NAME, Marker, Wanted, check_unmarked, read

if TYPE_CHECKING:
    from obstore import GetResult

UNREAD = "cannot read the store's marker"
# Seconds for which a process that has not checked the marker does not ask again after a failure. One request
# needs the marker several times, and would wait each time for an object store that does not answer.
PAUSE = 0.5
# When the store was made, in the metadata of a marker that was changed and does not say it.
MADE = "made"


class MarkedBucket(Bucket):
    """A bucket with the marker of a store, which is written if there is none.

    Before a process writes anything, even the marker, it tests that the engine respects the conditions of
    writes. Reading needs no such test.

    There is no lock that every write could hold. So a write uses the marker that was read last, and reads it
    again before it is acknowledged: if it has changed, the write is done again. Then everything acknowledged
    before a change was visible before the change, and a migration finds it.
    """

    def __init__(self, url: str, remote: Remote, wanted: Wanted) -> None:
        super().__init__(url, remote)
        self._url = url
        self._wanted = wanted
        self._verified = 0  # the process that has checked the marker
        self._failed: tuple[float, BaseException | None] = (float("-inf"), None)  # when and why it could not
        self._engine = Engine(self, url)
        # Threads that write at once read it once.
        self._refreshed = Shared(self._refresh)
        self.last = wanted.new
        """The marker that was read last, or that of the store that would be made."""
        if not wanted.create:
            self._read_existing()

    def known(self) -> Marker:
        """Return the marker that was read last.

        Until the object store has answered, that of the store that the settings would make.
        """
        with suppress(StoreUnavailable):
            self.require()
        return self.last

    def require(self) -> None:
        """Check once in each process that this is the right store; raises StoreUnavailable."""
        try:
            self.verify()
        except WrongStore as error:
            raise StoreUnavailable("the object store cannot be used") from error

    def require_writable(self) -> None:
        """Check also that the engine can hold a store; raises StoreUnavailable."""
        self.require()
        try:
            self._engine.require()
        except WrongStore as error:
            raise StoreUnavailable("the object store cannot be written to") from error

    def check(self) -> None:
        """Check that writes succeed now; raises StoreUnavailable, and WrongStore for lasting errors."""
        self.verify()
        self._engine.check()
        self.refresh()

    def verify(self) -> None:
        """Check the marker; raises StoreUnavailable, and WrongStore for lasting errors."""
        if self._verified == os.getpid():
            return
        when, why = self._failed
        if time.monotonic() < when + PAUSE:
            raise StoreUnavailable(UNREAD) from why
        try:
            marker = asked_again(self._found_or_made, self.timeout)
        except StoreUnavailable as error:
            failure = error.__cause__
            if isinstance(failure, Failure) and failure.lasting:  # pylint: disable=no-member
                raise WrongStore(f"{self._url} cannot be opened: {failure}") from error
            self._failed = time.monotonic(), failure
            raise
        self._wanted.require(marker, self._url)
        self.last = marker
        self._verified = os.getpid()

    def refresh(self) -> Marker:
        """Read the marker anew; raises StoreUnavailable: a missing bucket is not an empty store."""
        return self._refreshed()

    def _refresh(self) -> Marker:
        self.require()
        with asking(UNREAD):
            content = bytes(obstore.get(self.client, NAME).bytes())
        try:
            self.last = marker = read(content, self._url)
        except WrongStore as error:
            raise StoreUnavailable("the store cannot be used") from error
        return marker

    def made(self) -> float:
        """Return when the store was made, in seconds since the epoch; raises StoreUnavailable."""
        with asking(UNREAD):
            return _made(obstore.get(self.client, NAME), self.refresh())

    def change(self, change: Callable[[Marker], Marker]) -> Marker:
        """Replace the marker by the result of `change`; returns it. Raises StoreUnavailable."""
        with locked(self, NAME) as until, asking("cannot change the store's marker"):
            there = obstore.get(self.client, NAME)
            before = read(bytes(there.bytes()), self._url)
            after = change(before)
            if after != before:
                # The object gets a new time. A marker without names has no room for the old one.
                made = {MADE: repr(_made(there, before))}
                if time.monotonic() >= until or not self.replace(NAME, after.text(), there.meta, made):
                    raise StoreUnavailable("another process is changing the store: try again later")
        return self.refresh()

    def _found_or_made(self) -> Marker:
        client = self.client
        with asking(UNREAD):
            try:
                return _read(client, self._url)
            except FileNotFoundError:
                keys = (meta["path"] for page in obstore.list(client, offset=BEFORE_BLOBS) for meta in page)
                check_unmarked(self._url, itertools.islice(keys, 1000), self._wanted.new.algorithm)
                self._make_marker(client)
                return _read(client, self._url)

    def _make_marker(self, client: Client) -> None:
        # Two servers that start at once agree on one marker only if a key can be created only once.
        self._engine.require()
        with suppress(AlreadyExistsError):  # by a server that starts at the same moment
            obstore.put(client, NAME, self._wanted.new.text(), mode="create")

    def _read_existing(self) -> None:
        with asking(UNREAD):
            try:
                self.last = _read(self.client, self._url)
            except FileNotFoundError:
                raise StoreUnavailable(f"there is no store at {self._url}") from None


def _read(client: Client, url: str) -> Marker:
    return read(bytes(obstore.get(client, NAME).bytes()), url)


def _made(there: "GetResult", marker: Marker) -> float:
    if marker.made is not None:
        return marker.made
    return float(there.attributes.get(MADE) or there.meta["last_modified"].timestamp())
