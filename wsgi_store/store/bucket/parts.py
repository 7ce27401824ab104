"""A multipart upload whose parts are sent as soon as they are received."""

import mmap
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
    """The upload of a staged file by a thread of its own, while the file grows or, if `whole`, afterwards.

    The upload is aborted unless it is completed; call `close` in any case.
    """

    def __init__(  # pylint: disable=too-many-arguments
        self, bucket: Bucket, key: str, attributes: dict[str, str], fd: int, size: int, *, whole: bool
    ) -> None:
        self._fd = fd
        self._size = size
        pages = -(-size // MAX_PARTS // mmap.ALLOCATIONGRANULARITY)
        self._part = max(MIN_PART_SIZE, pages * mmap.ALLOCATIONGRANULARITY)
        # How many bytes there are, and finally whether the object may appear.
        self._steps: SimpleQueue[int | bool] = SimpleQueue()
        if whole:
            self._steps.put(size)
        self._sent: Future[None] = Future()
        self._pool = ThreadPoolExecutor(1, "wsgi_store-parts")
        self._sending = self._pool.submit(self._send, bucket, key, attributes, whole)

    def grown(self, size: int) -> None:
        """Send the parts up to `size`; raises StoreUnavailable if an earlier one failed."""
        if self._sending.done():
            self._sending.result()
        self._steps.put(size)

    def until_sent(self) -> None:
        """Wait until the last part is being sent; raises StoreUnavailable if one failed."""
        wait((self._sent, self._sending), return_when=FIRST_COMPLETED)
        if self._sending.done():
            self._sending.result()

    def complete(self) -> None:
        """Make the object appear; raises StoreUnavailable."""
        self._steps.put(True)
        self._sending.result()

    def close(self) -> None:
        """Abort the upload unless it is complete."""
        self._steps.put(False)
        self._pool.shutdown()

    def _send(self, bucket: Bucket, key: str, attributes: dict[str, str], whole: bool) -> None:
        parts = bucket.uplink.parts(whole=whole)
        # obstore aborts the upload on any error.
        with suppress(_Dropped), parts as at_once, asking("cannot write the blob"):
            obstore.put(
                bucket.client,
                key,
                self._parts(bucket.uplink, at_once),
                attributes=attributes,
                use_multipart=True,
                chunk_size=self._part,
                max_concurrency=at_once,
            )

    # obstore calls this from within its runtime, so this must not call obstore.
    def _parts(self, uplink: Uplink, at_once: int) -> Iterator[mmap.mmap]:
        there = 0
        for number, offset in enumerate(range(0, self._size, self._part)):
            stop = min(offset + self._part, self._size)
            while there < stop:
                there = self._next()
            # Mapped, so that the part takes no memory of this process.
            yield mmap.mmap(self._fd, stop - offset, prot=mmap.PROT_READ, offset=offset)
            # obstore requests the next part when an earlier one got through.
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
    """The object is not to appear."""
