"""Generators with threads: whoever abandons one waits for nothing, for it may be the garbage collector."""

import gc
import threading
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest

from tests.support.servers import until
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.bucket.listing import at_once
from wsgi_store.store.bucket.lookup import each
from wsgi_store.store.contract import Store
from wsgi_store.web.archive import _ahead

DIGESTS = [Digest(Algorithm.MD5, bytes([number]) * 16) for number in range(8)]
Ask = Callable[[Digest], Any]
Makes = Callable[[Ask], Any]


class Reader:
    """An empty blob."""

    def __init__(self, digest: Digest) -> None:
        self.blob = type("Blob", (), {"digest": digest, "size": 0})

    def close(self) -> None:
        """Nothing is open."""


def archive(ask: Ask) -> Any:
    """The blobs of an archive, each of which `ask` opens."""

    def opened(digest: Digest) -> Reader:
        ask(digest)
        return Reader(digest)

    store = type("Store", (), {"open": staticmethod(opened)})
    return _ahead(cast(Store, store), dict.fromkeys(DIGESTS))


@pytest.mark.parametrize(
    "make",
    [lambda ask: at_once(iter(DIGESTS), ask), lambda ask: each(DIGESTS, ask), archive],
    ids=["names", "lookup", "archive"],
)
@pytest.mark.parametrize("how", ["closed", "collected"])
def test_nobody_waits_for_what_is_abandoned(make: Makes, how: str) -> None:
    """The end of a generator does not wait for what its threads are doing."""
    go_on = threading.Event()
    waiting: list[Digest] = []

    def ask(digest: Digest) -> None:
        if digest != DIGESTS[0]:
            waiting.append(digest)
            assert go_on.wait(60)

    generators: list[Generator[Any, None, None]] = [make(ask)]
    next(generators[0])
    until(lambda: waiting, "threads to wait")
    ended = threading.Event()

    def end() -> None:
        if how == "closed":
            generators[0].close()
        else:
            # As the traceback of an exception may, through a frame that holds the exception.
            circle: list[Any] = [*generators]
            circle.append(circle)
            del circle, generators[:]
            gc.collect()
        ended.set()

    threading.Thread(target=end, daemon=True).start()
    try:
        assert ended.wait(10)
    finally:
        go_on.set()
