"""Uploads and deletions in a bucket, and what others do between two of their requests."""

from functools import partial
from itertools import count, cycle

import obstore
import pytest

from tests.support.engines import Answer, Between, Request
from tests.support.kinds import digest_of
from tests.support.moments import (
    ALGORITHMS,
    DATA,
    NAME,
    NO_SUCH_KEY,
    PRIMARY,
    Act,
    always,
    before,
    drop,
    joined,
    key,
    name_key,
    there,
)
from tests.support.stops import MD5, MIGRATING, NAMED, OLD, SHA1, SHA256, Server, primary
from wsgi_store.digest import Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.bucket import names, publish, removal
from wsgi_store.store.marker import Marker


@pytest.mark.parametrize("again", [False, True])
def test_a_name_that_comes_and_goes(others: Server, server: Server, proxy: Between, again: bool) -> None:
    """An upload takes a name that another process makes and removes at the same moment."""
    make = partial(obstore.put, others.client, name_key(NAME), b"?")
    sweep = partial(obstore.delete, others.client, name_key(NAME))
    acts: dict[tuple[str, int], Act] = {("PUT", 1): make, ("GET", 2): sweep}
    left = before(proxy, name_key(NAME), acts | ({("PUT", 2): make} if again else {}))
    assert server.upload(DATA)
    assert not left
    assert there(others) == [True] * 3


@pytest.mark.parametrize("answer", [None, NO_SUCH_KEY], ids=["Ceph", "AWS"])
def test_a_name_that_goes(others: Server, server: Server, proxy: Between, answer: Answer) -> None:
    """An upload makes a name that another process removes when it is about to be replaced."""
    obstore.put(others.client, name_key(NAME), b"?")
    sweep = partial(obstore.delete, others.client, name_key(NAME))
    left = before(proxy, name_key(NAME), {("PUT", 2): lambda: sweep() or answer})
    assert server.upload(DATA)
    assert not left
    assert there(others) == [True] * 3


@pytest.mark.parametrize("text", ["?", f"{primary(b'another')} "], ids=["?", "another"])
def test_a_name_that_is_changed_each_time(
    others: Server, server: Server, proxy: Between, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """An upload whose name others keep changing is not acknowledged without it."""
    monkeypatch.setattr(names, "ROUNDS", 3)
    server.hurry()
    numbers = count()

    def change() -> None:
        obstore.put(others.client, name_key(NAME), f"{text}{next(numbers)}".encode())

    change()
    always(proxy, name_key(NAME), {"PUT": change})
    with pytest.raises(StoreUnavailable, match="kept being changed"):
        server.upload(DATA)
    assert not any(there(others))
    proxy.answer = lambda _: None
    assert server.upload(DATA)
    assert there(others) == [True] * 3


def test_a_marker_that_is_changed_each_time(
    others: Server, server: Server, proxy: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload is not acknowledged as long as it cannot give the names that the store keeps."""
    monkeypatch.setattr(publish, "ROUNDS", 3)
    markers = cycle([Marker(SHA256, (one,), made=1e9) for one in (MD5, SHA1)])
    others.make(next(markers))
    server.refresh()
    always(proxy, "store.json", {"GET": lambda: others.make(next(markers))})
    with pytest.raises(StoreUnavailable, match="marker kept changing"):
        server.upload(DATA)
    proxy.answer = lambda _: None
    others.make(NAMED)
    server.upload(DATA)
    assert there(others) == [True] * 3


def test_a_blob_that_comes_and_goes(
    others: Server, server: Server, proxy: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that finds the key taken, and then no blob under it, is not acknowledged."""
    monkeypatch.setattr(publish, "ROUNDS", 3)
    acts = {"PUT": partial(others.upload, DATA), "HEAD": partial(others.delete, SHA256, DATA)}
    always(proxy, key(PRIMARY), acts)
    with pytest.raises(StoreUnavailable, match="kept being removed"):
        server.upload(DATA)
    assert not any(there(others))


@pytest.mark.parametrize("gone", [PRIMARY, NAME], ids=["primary", "old"])
def test_an_upload_that_a_migration_overtakes(
    others: Server, server: Server, proxy: Between, gone: Digest
) -> None:
    """It finds the blob under the primary name, too, and one of the two goes before it removes its own."""
    others.make(OLD)
    server.refresh()

    def answer(request: Request) -> None:
        if request.method == "GET" and request.to("store.json") and others.algorithm is MD5:
            others.make(MIGRATING)
            obstore.put(others.client, key(PRIMARY), DATA)  # by another program
        if request.method == "PUT" and request.to(f".locks/{NAME.hex}"):
            drop(others, gone)

    proxy.answer = answer
    assert server.upload(DATA)
    assert proxy.count(f".locks/{NAME.hex}", "PUT")
    assert there(others) == [True] * 3
    assert key(PRIMARY) in others.keys()
    assert key(NAME) not in others.keys()


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_deleting_what_an_upload_may_be_moving(others: Server, algorithm: object) -> None:
    """A blob under two keys that do not know of each other is deleted under both."""
    others.hurry()
    joined(others)
    assert others.delete(algorithm, DATA)  # type: ignore[arg-type]
    assert not any(there(others))
    assert not {key(NAME), key(PRIMARY)} & others.keys()


def test_deleting_what_keeps_being_replaced(
    others: Server, server: Server, proxy: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion fails as long as others keep putting the blob under its old name."""
    monkeypatch.setattr(removal, "ROUNDS", 3)
    server.hurry()
    joined(others)
    server.refresh()
    tokens = map(str, count())

    def replace() -> None:
        obstore.put(others.client, key(NAME), DATA, attributes={"upload": next(tokens)})

    always(proxy, key(NAME), {"HEAD": replace})
    with pytest.raises(StoreUnavailable, match="kept being replaced"):
        server.delete(SHA256, DATA)
    assert there(others) == [True] * 3
    proxy.answer = lambda _: None
    assert server.delete(SHA256, DATA)
    assert not any(there(others))


def test_deleting_what_has_just_got_its_primary_name(others: Server, server: Server, proxy: Between) -> None:
    """A deletion by the old name also removes what a migration has put under the primary one meanwhile."""
    others.make(MIGRATING)
    server.refresh()
    others.put_stray(MD5, DATA)
    held = {"upload": "0123", "names": f"{NAME} {digest_of(SHA1, DATA)}"}

    def copied() -> None:
        for name in (NAME, digest_of(SHA1, DATA)):
            obstore.put(others.client, name_key(name), f"{PRIMARY}\n".encode())
        obstore.put(others.client, key(PRIMARY), DATA, attributes=held)

    left = before(proxy, f".locks/{NAME.hex}", {("PUT", 1): copied})
    assert server.delete(MD5, DATA)
    assert not left
    assert not any(there(others))
    assert not {key(NAME), key(PRIMARY)} & others.keys()


def test_a_marker_that_cannot_be_read(others: Server, server: Server) -> None:
    """A server whose store got an unknown marker acknowledges nothing until the marker is mended."""
    others.upload(DATA)
    obstore.put(others.client, "store.json", b'{"algorithm": "sha999", "layout": "ab/abcdef"}\n')
    for call in (
        partial(server.upload, b"another"),
        partial(server.delete, SHA256, DATA),
        partial(server.holds, MD5, b"never added"),
        server.adopt_all,
    ):
        with pytest.raises(StoreUnavailable, match="the store cannot be used"):
            call()
    others.make(NAMED)
    assert there(server) == [True] * 3
    server.upload(b"another")
    assert there(server, b"another") == [True] * 3
