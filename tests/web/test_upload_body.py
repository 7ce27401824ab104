"""The body of a resumable upload is read in pieces that a slow client fills soon."""

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from wsgi_store.errors import IncompleteBody
from wsgi_store.web import body
from wsgi_store.web.body import PACED_LEAST, PACED_SECONDS, READ_SIZE, open_upload, paced


class Promptly(io.BytesIO):
    """A body that arrives in pieces, with pauses between them."""

    def __init__(self, *arrivals: bytes) -> None:
        super().__init__()
        self._arrivals = itertools.chain.from_iterable((None, data) for data in arrivals)

    def receive_into(self, buffer: memoryview) -> int | None:
        """Give the next piece."""
        data = next(self._arrivals, b"")
        if data is None:
            return None
        buffer[: len(data)] = data
        return len(data)


def test_what_arrives_is_handed_on() -> None:
    """A chunk stays valid until two more have arrived; a client that pauses gives empty ones."""
    environ: dict[str, Any] = {"wsgi.input": Promptly(b"one", b"two", b"three"), "CONTENT_LENGTH": "11"}
    chunks, length = open_upload(environ)
    got = [next(chunks) for _ in range(4)]
    assert (length, [bytes(chunk) for chunk in got]) == (11, [b"", b"one", b"", b"two"])
    assert [bytes(chunk) for chunk in chunks] == [b"", b"three"]
    assert bytes(got[3]) == b"two"


def test_a_cut_body() -> None:
    """A body that is shorter than announced ends with an error, after what has arrived."""
    chunks, _ = open_upload({"wsgi.input": Promptly(b"one"), "CONTENT_LENGTH": "11"})
    assert [bytes(next(chunks)) for _ in range(2)] == [b"", b"one"]
    with pytest.raises(IncompleteBody):
        list(chunks)


@pytest.fixture(name="sizes_at")
def fixture_sizes_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], list[int]]:
    """The sizes of reads from a client that sends so many bytes a second during each of them."""

    def sizes_at(rates: list[float]) -> list[int]:
        now = 0.0
        monkeypatch.setattr(body.time, "monotonic", lambda: now)
        sizes, found = paced(), []
        for rate in rates:
            size = next(sizes)
            found.append(size)
            now += size / rate if rate else 0
        return found

    return sizes_at


def test_a_fast_client(sizes_at: Callable[[list[float]], list[int]]) -> None:
    """Reads grow to full size within a few."""
    sizes = sizes_at([1e9] * 20)
    assert sizes[:3] == [PACED_LEAST, 2 * PACED_LEAST, 4 * PACED_LEAST]
    assert sizes[8:] == [READ_SIZE] * 12
    assert sizes_at([0] * 20)[8:] == [READ_SIZE] * 12


@pytest.mark.parametrize("rate", [100, 20_000, 1_000_000])
def test_a_slow_client(sizes_at: Callable[[list[float]], list[int]], rate: float) -> None:
    """Reads take a fraction of a second, or are as small as they may be."""
    for size in sizes_at([rate] * 50):
        assert size == PACED_LEAST or size / rate <= 2 * PACED_SECONDS


def test_a_client_that_slows_down(sizes_at: Callable[[list[float]], list[int]]) -> None:
    """The read after a slow one is small at once."""
    sizes = sizes_at([1e9] * 20 + [50_000] * 3)
    assert sizes[20] == READ_SIZE
    assert sizes[21] <= 50_000 * PACED_SECONDS
