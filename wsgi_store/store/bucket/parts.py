"""A file that goes up in parts as soon as they are received, and appears at once when all of it is right."""

import mmap
import secrets
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from queue import SimpleQueue

import obstore

from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.uplink import Uplink

MIN_PART_SIZE = 8 << 20
MAX_PARTS = 10_000  # the limit of S3


class Parts:
    """A staged file on its way up, sent by a thread of its own as it grows, or when it is there as a `whole`.

    It is dropped unless it is completed; `close` has to be called in any case.
    """

    def __init__(self, bucket: Bucket, key: str, fd: int, size: int, *, whole: bool) -> None:
        self._fd = fd
        self._size = size
        pages = -(-size // MAX_PARTS // mmap.ALLOCATIONGRANULARITY)
        self._part = max(MIN_PART_SIZE, pages * mmap.ALLOCATIONGRANULARITY)
        # How many bytes there are, and at the end whether they are to appear.
        self._steps: SimpleQueue[int | bool] = SimpleQueue()
        if whole:
            self._steps.put(size)
        self._sent: Future[None] = Future()
        self._pool = ThreadPoolExecutor(1, "wsgi_store-parts")
        self._sending = self._pool.submit(self._send, bucket, key, whole)

    def grown(self, size: int) -> None:
        """Send what there is now, so many bytes; raises StoreUnavailable when that has failed."""
        if self._sending.done():
            self._sending.result()
        self._steps.put(size)

    def until_sent(self) -> None:
        """Wait until the last part is on its way; raises StoreUnavailable when one has failed."""
        wait((self._sent, self._sending), return_when=FIRST_COMPLETED)
        if self._sending.done():
            self._sending.result()

    def complete(self) -> None:
        """Make the object appear; raises StoreUnavailable."""
        self._steps.put(True)
        self._sending.result()

    def close(self) -> None:
        """Drop the parts, unless they have become an object."""
        self._steps.put(False)
        self._pool.shutdown()

    def _send(self, bucket: Bucket, key: str, whole: bool) -> None:
        parts = bucket.uplink.parts(whole=whole)
        # On any failure obstore drops the parts.
        with suppress(_Dropped), parts as at_once, asking("cannot write the blob"):
            obstore.put(
                bucket.client,
                key,
                self._parts(bucket.uplink, at_once),
                attributes={"upload": secrets.token_hex(8)},
                use_multipart=True,
                chunk_size=self._part,
                max_concurrency=at_once,
            )

    # obstore calls this from within its runtime, which takes no calls from there: it only waits.
    def _parts(self, uplink: Uplink, at_once: int) -> Iterator[mmap.mmap]:
        there = 0
        for number, offset in enumerate(range(0, self._size, self._part)):
            stop = min(offset + self._part, self._size)
            while there < stop:
                there = self._next()
            # Read where it is: no memory of this process holds it.
            yield mmap.mmap(self._fd, stop - offset, prot=mmap.PROT_READ, offset=offset)
            # One more is asked for when this one is on its way, and no more than `at_once` are.
            if number >= at_once:
                uplink.got_through()
        self._sent.set_result(None)
        while self._next() is not True:
            pass

    def _next(self) -> int | bool:
        step = self._steps.get()
        if step is False:
            raise _Dropped
        return step


class _Dropped(Exception):
    """What was sent is not to become an object."""
