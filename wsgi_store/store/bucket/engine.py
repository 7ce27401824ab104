"""Testing whether an engine does what a store relies on, with temporary objects."""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from wsgi_store.errors import StoreError, StoreUnavailable, WrongStore
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asked_again, asking, refusal_of

if TYPE_CHECKING:
    from obstore import UpdateVersion

PROBES = ".probes"
FIRST, SECOND = b"0123456789", b"another one"
ATTRIBUTES = {"upload": "0123"}
# Requests that try to create the same key at once.
CONTENDERS = 4
# A condition that no object meets: Ceph and S3 compare the tag, others the version.
NEVER: "UpdateVersion" = {"e_tag": "0" * 32, "version": "1"}
# Seconds after which an unfit engine is tested again: it may have been repaired.
RETRY_INTERVAL = 60.0


class Engine:
    """What a process knows of the engine of a bucket: the first write tests it for all."""

    def __init__(self, bucket: Bucket, url: str) -> None:
        self._bucket = bucket
        self._url = url
        self._changing = threading.Lock()
        self._process = 0  # that has tested it
        self._since = 0.0
        self._faults: Future[list[str]] = Future()

    def require(self) -> None:
        """Raise WrongStore if the engine cannot hold a store, StoreUnavailable if it does not answer."""
        with self._changing:
            begins = self._unknown()
            if begins:
                self._process, self._since, self._faults = os.getpid(), time.monotonic(), Future()
            faults = self._faults
        if begins:
            self._try(faults)
        try:
            found = faults.result()
        except StoreUnavailable as error:
            # Each waiting thread gets an exception of its own.
            raise StoreUnavailable(error.message) from error.__cause__
        if found:
            raise WrongStore(
                f"{self._url} cannot be written to: the object store ignores or refuses "
                f"{', '.join(found)} (see docs/object-storage.md)"
            )

    def check(self) -> None:
        """Raise unless the engine takes writes now and still respects their conditions.

        The condition of this write cannot hold, so the engine makes all its checks and writes nothing.
        """
        self.require()
        key = _free_name()
        with asking("cannot write to the object store"):
            try:
                obstore.put(self._bucket.client, key, b"", mode=NEVER)
            except (PreconditionError, FileNotFoundError):
                return
            obstore.delete(self._bucket.client, key)
        self._process = 0  # it is not the engine that was tested
        self.require()

    def _unknown(self) -> bool:
        if self._process != os.getpid():
            return True
        if not self._faults.done():
            return False
        return bool(
            self._faults.exception()
            or (self._faults.result() and time.monotonic() >= self._since + RETRY_INTERVAL)
        )

    def _try(self, faults: Future[list[str]]) -> None:
        try:
            faults.set_result(faults_of(self._bucket))
        except StoreError as error:
            faults.set_exception(error)
        finally:
            if not faults.done():  # or others would wait for ever
                faults.set_exception(StoreUnavailable("the test of the object store was interrupted"))


def faults_of(bucket: Bucket) -> list[str]:
    """Name all that the engine ignores or refuses; raises StoreUnavailable if that is unknown now."""
    key = _free_name()
    # A failure here says nothing about the engine: it may be the keys, a quota or the network.
    with asking("cannot write to the object store"):
        obstore.put(bucket.client, key, FIRST, attributes=ATTRIBUTES)
    found: list[str | StoreUnavailable | None] = []
    try:
        # In parallel, because the first upload waits for them.
        with ThreadPoolExecutor(len(CHECKS)) as pool:
            found += pool.map(lambda name: _fault(name, CHECKS[name], bucket, key), CHECKS)
        # Afterwards, because deletions of the others confuse the listings of some engines; and not if the
        # engine has stopped to answer.
        if not any(isinstance(one, StoreUnavailable) for one in found):
            found.append(_fault("listings", _lists, bucket, key))
    finally:
        found.append(_fault("DELETE", _deletes, bucket, key))
    faults = [fault for fault in found if isinstance(fault, str)]
    for failure in found:
        # A known fault counts even if other tests failed.
        if isinstance(failure, StoreUnavailable) and not faults:
            raise failure
    return faults


def _fault(
    name: str, check: Callable[[Bucket, str], bool], bucket: Bucket, key: str
) -> str | StoreUnavailable | None:
    def fits() -> bool:
        with asking("cannot test the object store"):
            return check(bucket, key)

    try:
        return None if asked_again(fits, bucket.timeout) else name
    except StoreUnavailable as error:
        refusal = refusal_of(error)
        return f"{name} ({refusal})" if refusal else error


def _free_name() -> str:
    return f"{PROBES}/{secrets.token_hex(16)}"


@contextmanager
def _thrown_away(bucket: Bucket) -> Iterator[str]:
    """Yield a key that nobody else knows, and delete its object afterwards."""
    key = _free_name()
    try:
        yield key
    finally:
        # What is left behind, here or by a killed process, is collected.
        with suppress(BaseError, FileNotFoundError):
            obstore.delete(bucket.client, key)


def _content(bucket: Bucket, key: str) -> bytes:
    return bytes(obstore.get(bucket.once, key).bytes())


def _gives_names_once(bucket: Bucket, _: str) -> bool:
    def create(key: str) -> bool:
        try:
            obstore.put(bucket.once, key, FIRST, mode="create")
        except AlreadyExistsError:
            return False
        return True

    with _thrown_away(bucket) as key:
        if not create(key) or create(key):
            return False
    with _thrown_away(bucket) as key, ThreadPoolExecutor(CONTENDERS) as pool:
        # S3 may answer 409 to all of them, and then there is no object.
        return sum(pool.map(create, [key] * CONTENDERS)) <= 1


def _compares_tags(bucket: Bucket, _: str) -> bool:
    with _thrown_away(bucket) as key:
        obstore.put(bucket.once, key, FIRST)
        there = obstore.get(bucket.once, key)
        with suppress(PreconditionError):
            obstore.put(bucket.once, key, SECOND, mode=NEVER)
            return False
        if there.bytes() != FIRST or _content(bucket, key) != FIRST:
            return False
        bucket.replace(key, SECOND, there.meta)
        return _content(bucket, key) == SECOND


def _sends_ranges(bucket: Bucket, key: str) -> bool:
    try:
        part = obstore.get(bucket.once, key, options={"range": (3, 7)})
    except BaseError as error:
        # obstore refuses a response whose status or fields are not those of a range.
        if "Error performing" in str(error):
            raise
        return False
    return part.bytes() == FIRST[3:7]


def _keeps_attributes(bucket: Bucket, key: str) -> bool:
    there = bucket.describe(key)
    return there.attributes.items() >= ATTRIBUTES.items() and there.meta["size"] == len(FIRST)


def _lists(bucket: Bucket, key: str) -> bool:
    def listed(offset: str) -> list[tuple[str, int]]:
        page = next(iter(obstore.list(bucket.once, prefix=PROBES, offset=offset)), ())
        return [(meta["path"], meta["size"]) for meta in page]

    # From a key just before it, and from its own.
    found, behind = listed(key[:-1]), listed(key)
    return found == sorted(found) and (key, len(FIRST)) in found and all(path > key for path, _ in behind)


def _copies(bucket: Bucket, key: str) -> bool:
    with _thrown_away(bucket) as copy:
        obstore.copy(bucket.once, key, copy)
        return _content(bucket, copy) == FIRST


def _takes_parts(bucket: Bucket, _: str) -> bool:
    with _thrown_away(bucket) as key:
        obstore.put(bucket.once, key, iter([FIRST]), attributes=ATTRIBUTES, use_multipart=True)
        there = obstore.get(bucket.once, key)
        return there.attributes.items() >= ATTRIBUTES.items() and there.bytes() == FIRST


def _deletes(bucket: Bucket, key: str) -> bool:
    obstore.delete(bucket.once, key)
    try:
        bucket.describe(key)
    except FileNotFoundError:
        return True
    return False


# The name of each test in messages, in the words of S3.
CHECKS: dict[str, Callable[[Bucket, str], bool]] = {
    "If-None-Match on PUT": _gives_names_once,
    "If-Match on PUT": _compares_tags,
    "Range on GET": _sends_ranges,
    "metadata of objects": _keeps_attributes,
    "copies": _copies,
    "uploads in parts": _takes_parts,
}
