"""The response as the server gets it: status line, fields and body."""

import gc
import json
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.calling import call, request, start
from wsgi_store.config import Config
from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.contract import BlobReader
from wsgi_store.web.application import Application
from wsgi_store.web.download import CONSTANT, PRIVATE, PUBLIC
from wsgi_store.web.response import Response

NAME = "X-Name"


@given(before=st.text(max_size=5), bad=st.characters(codec=None), after=st.text(max_size=5))
@example(before="a", bad="\r", after="")
@example(before="", bad="\n", after="Set-Cookie: a=b")
@example(before="a", bad="\0", after="b")
@example(before="a", bad="\u010a", after="")  # a line break for a server that keeps only the low byte
@example(before="a", bad="\x85", after="")
@example(before="a", bad="\ud800", after="")
def test_values_that_could_end_a_line(before: str, bad: str, after: str) -> None:
    """A field value must be printable ASCII; anything else is refused."""
    value = before + bad + after
    if all(" " <= character <= "~" for character in value):
        assert Response(b"", 200, [(NAME, value)]).headers[0] == (NAME, value)
    else:
        with pytest.raises(ValueError, match=NAME):
            Response(b"", 200, [(NAME, value)])


def test_a_value_that_could_end_a_line_is_an_error(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line break in a handler's field value gets 500, without the injected field."""
    path = call(application, "POST", body=b"hello\n").json["url"]
    monkeypatch.setattr("wsgi_store.web.download.describe", lambda name: ("text/plain", f"inline; {name}"))
    answer = call(application, path=f"{path}/a\r\nSet-Cookie: a=b")
    assert (answer.status, answer.json["code"]) == (500, "internal_error")
    assert "Set-Cookie" not in answer.headers


def test_fields_given_twice() -> None:
    """Fields keep their order, repeated ones included."""
    fields = [("WWW-Authenticate", "Bearer"), ("Allow", "GET"), ("WWW-Authenticate", "Basic")]
    _, headers, body = start(Response([b"a", b"b"], 401, fields), request())
    assert list(headers) == fields
    assert list(body) == [b"a", b"b"]


def test_fields_that_answers_share(application: Application) -> None:
    """A server may change the list of fields it gets (PEP 3333) without affecting other answers."""
    path = call(application, "POST", body=b"hello\n").json["url"]
    before = [list(fields) for fields in (PUBLIC, PRIVATE, CONSTANT)]

    def start_response(_: str, fields: list[tuple[str, str]], __: object = None) -> None:
        assert type(fields) is list  # pylint: disable=unidiomatic-typecheck  # as PEP 3333 has it
        fields.clear()

    for method in ("GET", "HEAD"):
        for extra in ({}, {"HTTP_IF_NONE_MATCH": "*"}, {"HTTP_RANGE": "bytes=0-0"}):
            application(request(method, path, **extra), start_response)
    assert [PUBLIC, PRIVATE, CONSTANT] == before


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_length(method: str) -> None:
    """Content-Length is added to a body of bytes only."""
    status, headers, body = start(Response(b"hello", 404, []), request(method))
    assert (status, headers["Content-Length"]) == (404, "5")
    assert body == ([b"hello"] if method == "GET" else [])
    _, headers, body = start(Response([], 304, []), request(method))
    assert not headers and not body


class Halting:
    """A reader that returns at most `most` bytes at a time and records the sizes asked for."""

    def __init__(self, reader: BlobReader, most: int) -> None:
        self._reader = reader
        self._most = most
        self.blob = reader.blob
        self.asked: list[int] = []

    def read(self, size: int = -1, /) -> bytes:
        """Return some bytes."""
        self.asked.append(size)
        return self._reader.read(min(size, self._most))

    def seek(self, offset: int, /) -> int:
        """Pass it on."""
        return self._reader.seek(offset)

    def close(self) -> None:
        """Pass it on."""
        self._reader.close()


@pytest.mark.parametrize(
    "size, most, asked",
    [(0, 9, []), (10, 10, [10]), (65536, 65536, [65536]), (10, 4, [10, 6, 2]), (10, 5, [10, 5])],
)
def test_small_blobs_are_read_once(
    application: Application, monkeypatch: pytest.MonkeyPatch, size: int, most: int, asked: list[int]
) -> None:
    """A small blob is read in one call of its exact length, and in more after short reads."""
    data = bytes(range(256)) * 256
    path = call(application, "POST", body=data[:size]).json["url"]
    readers: list[Halting] = []
    opened = application.store.open

    def open_(*args: object) -> Halting:
        readers.append(Halting(opened(*args), most))  # type: ignore[arg-type]
        return readers[-1]

    monkeypatch.setattr(application.store, "open", open_)
    assert call(application, path=path).body == data[:size]
    assert call(application, path=path, HTTP_IF_MATCH="*").body == data[:size]
    assert {tuple(reader.asked) for reader in readers} == {tuple(asked)}


def test_small_blob_cut_while_read(
    application: Application, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small blob that ends early gets 503, even if only close() reports it."""
    path = call(application, "POST", body=b"hello\n").json["url"]
    opened = application.store.open

    class Ending(Halting):  # pylint: disable=missing-class-docstring
        def close(self) -> None:
            super().close()
            raise StoreUnavailable("it was cut")

    monkeypatch.setattr(application.store, "open", lambda digest: Ending(opened(digest), 0))
    answer = call(application, path=path)
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert config.root not in answer.body.decode()


def test_what_clients_make_long_is_not_kept(application: Application) -> None:
    """Long names and fields, all different, are not kept after their request."""
    hash_ = json.loads(call(application, "POST", body=b"some bytes").body)["hash"]

    def ask(number: int) -> None:
        long = f"{number}-{'x' * 8000}"
        assert call(application, "GET", f"/{hash_}/{long}").status == 200
        assert call(application, "POST", body=b"some bytes", HTTP_ACCEPT=long).status == 200

    ask(0)
    tracemalloc.start()
    try:
        begin, _ = tracemalloc.get_traced_memory()
        for number in range(1, 100):
            ask(number)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - begin < 1 << 20
    finally:
        tracemalloc.stop()
