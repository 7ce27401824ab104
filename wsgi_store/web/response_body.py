"""Response bodies that are read from the store while they are sent."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from wsgi_store.errors import StoreError
from wsgi_store.logs import logger
from wsgi_store.store.contract import BlobReader
from wsgi_store.web.conditional import Range
from wsgi_store.web.exchange import exchange_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Bytes of a read and a write while a response is sent.
SEND_SIZE = 1 << 18


def pieces(reader: BlobReader, length: int) -> Iterator[bytes]:
    """Yield `length` bytes; fewer only if `close` will raise."""
    while length and (data := reader.read(min(SEND_SIZE, length))):
        length -= len(data)
        yield data


class Body:
    """A response body that is read in pieces."""

    def __init__(self, environ: "WSGIEnvironment", close: Callable[[], object]) -> None:
        self._environ = environ
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._blocks()
        except StoreError as error:
            exchange = exchange_of(self._environ)
            if exchange.own_worker:
                raise
            logger.bind(request_id=exchange.request_id).error("{}", broke_off(error))
            # A server cuts the response only if an exception reaches it, and prints its traceback, which
            # contains paths.
            raise error.with_traceback(None) from None

    def _blocks(self) -> Iterator[bytes]:
        raise NotImplementedError


def broke_off(error: StoreError) -> str:
    """Return the log message about a response that the store broke off."""
    return f"a response broke off: {error.message}{f' ({error.__cause__})' if error.__cause__ else ''}"


class Stream(Body):
    """A blob read from an object store; the first bytes are read before the response begins."""

    def __init__(self, environ: "WSGIEnvironment", reader: BlobReader) -> None:
        super().__init__(environ, reader.close)
        self._reader = reader
        try:
            self._first = reader.read(SEND_SIZE)
        except StoreError:
            reader.close()
            raise

    def _blocks(self) -> Iterator[bytes]:
        yield self._first
        yield from iter(partial(self._reader.read, SEND_SIZE), b"")


class Parts(Body):
    """The body of a multipart/byteranges response: the head of each part, and the part."""

    def __init__(
        self,
        environ: "WSGIEnvironment",
        reader: BlobReader,
        parts: list[tuple[bytes, Range]],
        end: bytes,
    ) -> None:
        super().__init__(environ, reader.close)
        self._reader = reader
        self._parts = parts
        self._end = end

    def _blocks(self) -> Iterator[bytes]:
        for head, part in self._parts:
            yield head
            yield from pieces(self._reader, part.stop - self._reader.seek(part.start))
        yield self._end
