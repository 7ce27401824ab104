"""Stores in a bucket that are stopped between two of their requests, and what may come of that."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import obstore
import pytest

from tests.support import ceph
from tests.support.engines import Answer, Between, Request
from tests.support.kinds import BucketKind, content, digest_of
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreError
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.bucket.client import Bucket, Client
from wsgi_store.store.bucket.copying import Copier
from wsgi_store.store.bucket.s3 import connect
from wsgi_store.store.bucket.store import ObjectStore
from wsgi_store.store.contract import Added, Blob, Remote
from wsgi_store.store.marker import Marker

MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256
# Seconds after which a lock is taken over: too few for a busy machine, where nobody is stopped.
TIMEOUT = 0.5
PATIENT = 30.0
KIND = BucketKind()
SINCE = 1e9
NAMED = Marker(SHA256, (MD5, SHA1), None, None, SINCE)
MIGRATING = Marker(SHA256, (MD5, SHA1), MD5, SINCE, SINCE)
OLD = Marker(MD5, (SHA1,), None, None, SINCE)


@lru_cache(4)
def _client(endpoint: str | None) -> Any:
    """A client for copies; making one takes long."""
    return connect(Bucket(f"s3://{ceph.BUCKET}", Remote("", endpoint=endpoint, timeout=30.0)))


class Server(ObjectStore):
    """A store whose requests may take longer than others respect its locks, as if it had been stopped."""

    def __init__(self, root: Path, endpoint: str | None = None, timeout: float = PATIENT) -> None:
        root.mkdir(exist_ok=True)
        super().__init__(
            KIND.url(root), None, Remote(str(root), endpoint=endpoint, timeout=30.0), create=True
        )
        self.root = root
        self.granularity = 2.0
        self.seen = 0.02
        bucket = self._bucket
        bucket._engine.require = lambda: None  # type: ignore[method-assign]  # Ceph was tested often enough
        _ = bucket.client, bucket.once
        self._adoption.copier = Copier(bucket, _client(endpoint))
        bucket.timeout = timeout

    def hurry(self) -> None:
        """Take over locks as soon as in a test in which somebody is stopped."""
        self._bucket.timeout = TIMEOUT

    @property
    def client(self) -> Client:
        """The client of the bucket."""
        return self._bucket.client

    def copies_metadata(self, patch: pytest.MonkeyPatch) -> None:
        """Make the engine count as one whose copies keep the metadata."""
        patch.setattr(self._bucket, "scheme", "gs")

    def make(self, marker: Marker) -> None:
        """Put a marker in the place of the present one."""
        obstore.put(self._bucket.client, "store.json", marker.text())
        self.refresh()

    def put_stray(self, algorithm: Algorithm, data: bytes) -> None:
        """Put an object where servers of another algorithm do."""
        name = digest_of(algorithm, data).hex
        obstore.put(self._bucket.client, f"{name[:2]}/{name}", data)

    def keys(self) -> set[str]:
        """The keys in the bucket, without locks."""
        listed = (meta["path"] for page in obstore.list(self._bucket.client) for meta in page)
        return {key for key in listed if not key.startswith(".locks/")}

    def upload(self, data: bytes) -> bool:
        """Upload some bytes; returns whether that created the blob."""
        with suppress(FileExistsError):
            (self.root / "staging").mkdir()
        return Staging(self).receive([data]).added is Added.CREATED

    def delete(self, algorithm: Algorithm, data: bytes) -> bool:
        """Delete a blob by one of its names; returns whether it was there."""
        try:
            self.remove(digest_of(algorithm, data))
        except BlobNotFound:
            return False
        return True

    def holds(self, algorithm: Algorithm, data: bytes) -> bool:
        """Whether a blob can be read by a name."""
        try:
            assert content(self, digest_of(algorithm, data)) == data
        except BlobNotFound:
            return False
        return True

    def hashed(self, blob: Blob) -> Hashed:
        """Read a blob and hash it."""
        reader = self.open(blob.digest)
        data = reader.read()
        return Hashed(blob.digest, reader.stamp, {one: digest_of(one, data) for one in self.algorithms})

    def adopt_all(self) -> list[Adopted]:
        """Give all strays their primary names."""
        outcomes = []
        for algorithm in self.refresh()[1:]:
            for blob in self.strays(algorithm):
                with suppress(BlobNotFound):
                    outcomes += self.adopt([self.hashed(blob)])
        return outcomes

    def migrate(self) -> None:
        """Migrate the store from MD5 to SHA-256, from the first step to the last."""
        self.change_marker(lambda _: MIGRATING)
        while self.adopt_all():
            pass
        self.change_marker(lambda marker: replace(marker, migrating=None))

    def sweep(self) -> list[str]:
        """Sweep the names that lead nowhere."""
        return list(self.sweep_names(remove=True))


@dataclass(frozen=True)
class Call:
    """A call that changes or reads whether a blob is there, and what it returned; None if it failed."""

    kind: str
    result: bool | None = None


def called(kind: str, call: Callable[[], object]) -> Call:
    """Call something and note the result; failures that may pass are failures."""
    try:
        result = call()
    except StoreError as error:
        assert not isinstance(error, BlobNotFound), error
        return Call(kind)
    return Call(kind, bool(result))


def explained(before: bool, inner: Sequence[Call], outer: Call, after: bool) -> bool:
    """Whether calls one after another would have these results, with the outer one somewhere among them.

    One that failed may have had its effect or not; that of the outer one may have come later.
    """
    orders = [[*inner[:at], outer, *inner[at:]] for at in range(len(inner) + 1)]
    return any(after in _possible({before}, order) for order in orders)


def _possible(states: set[bool], order: Sequence[Call]) -> set[bool]:
    """Whether the blob can be there after these calls, if it may have been there before as `states` says."""
    for call in order:
        if call.result is None:
            states = states | {{"upload": True, "delete": False}.get(call.kind, there) for there in states}
            continue
        found = {"upload": not call.result, "delete": call.result, "read": call.result}.get(call.kind)
        states = {there for there in states if found in (None, there)}
        if states and call.kind in ("upload", "delete"):
            states = {call.kind == "upload"}
    return states


def stopped(proxy: Between, number: int, meanwhile: Callable[[], None]) -> Callable[[], bool]:
    """Let something happen before the proxy forwards this request; returns whether it came so far."""
    came = [0]

    def answer(_: Request) -> None:
        came[0] += 1
        if came[0] == number:
            meanwhile()

    proxy.answer = answer
    return lambda: came[0] >= number


def killed(proxy: Between, number: int) -> Callable[[], bool]:
    """Let no request through from this one on; returns whether it came so far."""
    came = [0]

    def answer(_: Request) -> Answer:
        came[0] += 1
        return None if came[0] < number else (403, b"<Error><Code>AccessDenied</Code></Error>")

    proxy.answer = answer
    return lambda: came[0] >= number


def outlast_locks() -> None:
    """Wait until the locks of killed processes can be taken over."""
    time.sleep(TIMEOUT)


def primary(data: bytes) -> Digest:
    """The primary name of some bytes."""
    return digest_of(SHA256, data)
