"""Locks that the servers of a bucket share: objects that only one of them can create."""

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asking

if TYPE_CHECKING:
    from obstore import ObjectMeta

LOCKS = ".locks"
# Seconds at most between two attempts to get a lock.
MAX_PAUSE = 0.02


class Held(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(bucket: Bucket, name: str, *, wait: bool = True) -> Iterator[float]:
    """Hold the lock of a name; yields the `time.monotonic` until which nobody can take it over.

    A holder that died or lost its connection leaves the lock behind. Others take it over after
    `bucket.timeout` seconds, so a holder that was only slow then is no longer alone. Raises
    StoreUnavailable, and Held if the lock is taken and `wait` is false.
    """
    key = f"{LOCKS}/{name}"
    token = secrets.token_bytes(16)
    until = _acquire(bucket, key, token, wait)
    try:
        yield until
    except (BaseError, StoreUnavailable):
        raise  # another request would wait as long again: the lock is left for the next one to take over
    except BaseException:
        _release(bucket, key, until)
        raise
    _release(bucket, key, until)


def _acquire(bucket: Bucket, key: str, token: bytes, wait: bool) -> float:
    end = time.monotonic() + 1.5 * bucket.timeout
    held: tuple[object, ...] = ()
    since = replaced = 0.0
    with asking("cannot lock the blob"):
        while True:
            begin = time.monotonic()
            with suppress(AlreadyExistsError):
                obstore.put(bucket.client, key, token, mode="create")
                return begin + bucket.timeout
            now = time.monotonic()
            try:
                there = obstore.get(bucket.client, key)
                if there.bytes() == token:
                    # The response was lost and obstore repeated the request: held since the first one.
                    return (replaced or begin) + bucket.timeout
            except FileNotFoundError:
                continue
            if not wait:
                raise Held(key)
            meta = there.meta
            if held != (meta["e_tag"], meta["last_modified"]):
                held, since = (meta["e_tag"], meta["last_modified"]), now
            elif now >= since + bucket.timeout:
                replaced = now
                if bucket.replace(key, token, meta):
                    return now + bucket.timeout
            if now >= end:
                raise StoreUnavailable("timed out waiting for the lock on this blob")
            time.sleep(random.uniform(0, MAX_PAUSE))


def _release(bucket: Bucket, key: str, until: float) -> None:
    # After `until` the lock may be another's. One that could not be removed will be taken over.
    if time.monotonic() < until:
        with suppress(BaseError, FileNotFoundError):
            obstore.delete(bucket.once, key)


def remove_left(bucket: Bucket, there: "ObjectMeta") -> bool:
    """Remove a lock that was described `bucket.timeout` seconds ago; False if it has changed since.

    Raises StoreUnavailable.
    """
    begin = time.monotonic()
    with asking("cannot take over the lock"):
        # It is taken over first, so that nobody else takes it over meanwhile.
        if not bucket.replace(there["path"], secrets.token_bytes(16), there):
            return False
    _release(bucket, there["path"], begin + bucket.timeout)
    return True


def remove(bucket: Bucket, key: str, until: float) -> None:
    """Remove an object only while its lock is certainly held, because a new one may follow.

    Raises StoreUnavailable.
    """
    if time.monotonic() >= until:
        raise StoreUnavailable("the lock expired before the blob was removed")
    with asking("cannot remove the blob"):
        obstore.delete(bucket.once, key)
