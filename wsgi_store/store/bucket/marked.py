"""A bucket that is a store: its marker is checked before any other object is used."""

import itertools
import os
from contextlib import suppress

import obstore
from obstore.exceptions import AlreadyExistsError

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, StoreUnavailable, WrongStore
from wsgi_store.store import marker
from wsgi_store.store.bucket.client import Bucket, Client
from wsgi_store.store.bucket.engine import Engine
from wsgi_store.store.bucket.failures import Failure, asking
from wsgi_store.store.contract import Remote
from wsgi_store.store.marker import Marker, Wanted


def marker_at(url: str, remote: Remote, wanted: Wanted) -> Marker:
    """Return the marker of a store; raises StoreUnavailable if there is none, and WrongStore."""
    with asking("cannot read the store's marker"):
        try:
            content = _read(Bucket(url, remote).client)
        except FileNotFoundError:
            if wanted.create:
                return wanted.new
            raise StoreUnavailable(f"there is no store at {url}") from None
    return marker.read(content, url)


def _read(client: Client) -> bytes:
    return bytes(obstore.get(client, marker.NAME).bytes())


class MarkedBucket(Bucket):
    """A bucket with the marker of a store, which is written once if there is none.

    Before a process writes anything, even the marker, it tests that the engine respects the conditions of
    writes. Reading needs no such test.
    """

    def __init__(self, url: str, remote: Remote, wanted: Wanted) -> None:
        super().__init__(url, remote)
        self._url = url
        self._wanted = wanted
        self._verified = 0  # the process that has checked the marker
        self._engine = Engine(self, url)

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
        self.require_marker()

    def verify(self) -> None:
        """Check the marker; raises StoreUnavailable, and WrongStore for lasting errors."""
        if self._verified == os.getpid():
            return
        try:
            with asking("cannot read the store's marker"):
                text = self._marker()
        except StoreUnavailable as error:
            failure = error.__cause__
            if isinstance(failure, Failure) and failure.lasting:  # pylint: disable=no-member
                raise WrongStore(f"{self._url} cannot be opened: {failure}") from error
            raise
        self._wanted.require(marker.read(text, self._url), self._url)
        self._verified = os.getpid()

    def require_marker(self) -> None:
        """Raise StoreUnavailable unless the marker is there: a missing bucket is not an empty store."""
        with asking("cannot read the store's marker"):
            self.describe(marker.NAME)

    def absent(self, digest: Digest) -> BlobNotFound:
        """Return the error for a missing blob; raises StoreUnavailable if the store is missing."""
        self.require_marker()
        return BlobNotFound(hash=digest.hex)

    def _marker(self) -> bytes:
        client = self.client
        try:
            return _read(client)
        except FileNotFoundError:
            keys = (meta["path"] for page in obstore.list(client) for meta in page)
            marker.check_unmarked(self._url, itertools.islice(keys, 1000), self._wanted.new.algorithm)
            self._make_marker(client)
            return _read(client)

    def _make_marker(self, client: Client) -> None:
        # Two servers that start at once agree on one marker only if a key can be created only once.
        self._engine.require()
        with suppress(AlreadyExistsError):  # by a server that starts at the same moment
            obstore.put(client, marker.NAME, self._wanted.new.text(), mode="create")
