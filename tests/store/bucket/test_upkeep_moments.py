"""Migrations and sweeping of a bucket, and what others do between two of their requests."""

from functools import partial

import obstore
import pytest

from tests.support import ceph
from tests.support.buckets import s3, unfinished
from tests.support.engines import Answer, Between
from tests.support.kinds import content, digest_of
from tests.support.moments import (
    DATA,
    NAME,
    NO_SUCH_KEY,
    PRIMARY,
    Act,
    before,
    drop,
    joined,
    key,
    name_key,
    there,
)
from tests.support.stops import MD5, MIGRATING, SHA1, SHA256, Server, primary
from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.store.abilities import Adopted
from wsgi_store.store.bucket import copying, litter
from wsgi_store.upkeep.collect import DAY

LARGE = bytes(range(256)) * (12 << 12)


def test_moving_what_an_upload_may_be_moving(others: Server) -> None:
    """A blob under two keys that do not know of each other is joined."""
    others.hurry()
    joined(others)
    assert others.adopt_all() == [Adopted.JOINED]
    assert there(others) == [True] * 3
    assert key(NAME) not in others.keys()


def test_moving_what_an_upload_is_moving(others: Server, server: Server, proxy: Between) -> None:
    """The upload that moves the blob comes first, and the migration looks again."""
    joined(others)
    server.refresh()
    found = [server.hashed(blob) for blob in server.strays(MD5)]
    left = before(proxy, key(NAME), {("HEAD", 2): lambda: None, ("HEAD", 3): partial(drop, others, NAME)})
    assert server.adopt(found) == [Adopted.CHANGED]
    assert not left
    assert server.adopt(found) == [Adopted.HELD]
    assert server.holds(SHA256, DATA)


@pytest.mark.parametrize(("number", "data"), [(1, DATA), (2, DATA[::-1])], ids=["intact", "damaged"])
def test_a_primary_name_that_goes(
    others: Server, server: Server, proxy: Between, number: int, data: bytes
) -> None:
    """An object that another process removes meanwhile does not count as damaged."""
    others.make(MIGRATING)
    server.refresh()
    others.put_stray(MD5, DATA)
    obstore.put(others.client, key(PRIMARY), data)
    found = [server.hashed(blob) for blob in server.strays(MD5)]
    # While it is compared, or before it moves to quarantine.
    left = before(proxy, key(PRIMARY), {("GET", number): partial(drop, others, PRIMARY)})
    assert server.adopt(found) == [Adopted.CHANGED]
    assert not left
    assert not list(server.quarantined())
    assert server.adopt(found) == [Adopted.NAMED]
    assert there(others) == [True] * 3


def test_a_large_blob_that_is_replaced_while_it_is_copied(
    others: Server, server: Server, proxy: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of mixed parts never appears, and its parts are dropped."""
    monkeypatch.setattr(copying, "WHOLE_MAX", 5 << 20)
    monkeypatch.setattr(copying, "PART", 5 << 20)
    others.make(MIGRATING)
    server.refresh()
    others.put_stray(MD5, LARGE)
    (stray,) = server.strays(MD5)
    found = [server.hashed(stray)]
    replace = partial(obstore.put, others.client, key(stray.digest), LARGE[::-1], use_multipart=False)
    left = before(proxy, key(primary(LARGE)), {("PUT", 2): replace})
    assert server.adopt(found) == [Adopted.CHANGED]
    assert not left
    assert not unfinished(others.root)
    assert {one for one in others.keys() if one[0] != "."} == {"store.json", key(stray.digest)}


@pytest.mark.parametrize("how", ["another part", "aborted"])
def test_an_upload_that_goes_on_when_it_is_collected(
    others: Server, server: Server, proxy: Between, how: str
) -> None:
    """An old upload in parts that goes on at that moment is not aborted; one that ends is not counted."""
    client = s3()
    begun = {"Bucket": ceph.BUCKET, "Key": f"{str(others.root)[1:]}/{key(PRIMARY)}"}
    begun["UploadId"] = client.create_multipart_upload(**begun)["UploadId"]
    acts: dict[str, Act] = {
        "another part": lambda: client.upload_part(**begun, PartNumber=1, Body=DATA),
        "aborted": lambda: client.abort_multipart_upload(**begun),
    }
    left = before(proxy, key(PRIMARY), {("GET", 2): acts[how]})
    assert not list(server.abandoned(float("inf"), remove=True))
    assert not left
    assert unfinished(others.root) == ({key(PRIMARY): len(DATA)} if how == "another part" else {})
    proxy.answer = lambda _: None
    assert len(list(server.abandoned(float("inf"), remove=True))) == (how == "another part")


def test_uploads_in_parts_that_cannot_be_listed(others: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """On gs:// and az:// no upload in parts is collected: they expire by a rule of the bucket."""
    begun = {"Bucket": ceph.BUCKET, "Key": f"{str(others.root)[1:]}/{key(PRIMARY)}"}
    s3().create_multipart_upload(**begun)
    with monkeypatch.context() as patch:
        others.copies_metadata(patch)
        assert not list(others.abandoned(float("inf"), remove=True))
    assert len(list(others.abandoned(float("inf"), remove=True))) == 1


@pytest.mark.parametrize("answer", [None, NO_SUCH_KEY], ids=["Ceph", "AWS"])
def test_a_lock_that_is_released_when_it_is_collected(
    others: Server, server: Server, proxy: Between, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    """A lock whose holder removes it at that moment is not counted, and is not made anew."""
    monkeypatch.setattr(litter, "MIN_AGE", -DAY)
    server.hurry()
    place = f".locks/{NAME.hex}"
    obstore.put(others.client, place, b"held")
    left = before(proxy, place, {("PUT", 1): lambda: obstore.delete(others.client, place) or answer})
    assert not list(server.litter(float("inf"), remove=True))
    assert not left
    with pytest.raises(FileNotFoundError):
        obstore.head(others.client, place)


def test_discarding_at_once(others: Server, server: Server, proxy: Between) -> None:
    """Of two processes that discard a blob from quarantine one is told that it was not there."""
    others.upload(DATA)
    obstore.put(others.client, key(PRIMARY), b"damaged")
    assert others.quarantine(NAME)
    left = before(proxy, f".locks/{PRIMARY.hex}", {("PUT", 1): partial(others.discard, PRIMARY)})
    with pytest.raises(BlobNotFound):
        server.discard(PRIMARY)
    assert not left
    assert not list(others.quarantined())


def test_names_that_lead_to_old_names(others: Server) -> None:
    """At the end of a migration each name leads to a primary name; one that leads nowhere is swept."""
    others.make(MIGRATING)
    others.upload(DATA)
    other = digest_of(MD5, b"removed")
    for name, target in ((digest_of(SHA1, DATA), NAME), (digest_of(SHA1, b"removed"), other)):
        obstore.put(others.client, name_key(name), f"{target}\n".encode())
    assert there(others) == [True] * 3
    assert list(others.settle_names()) == [digest_of(SHA1, DATA)]
    assert not list(others.settle_names())
    assert dict(others.links(SHA1))[digest_of(SHA1, DATA)] == PRIMARY
    assert others.sweep() == [digest_of(SHA1, b"removed").hex]
    assert there(others) == [True] * 3


def test_a_name_that_a_blob_takes_at_the_end_of_a_migration(
    others: Server, server: Server, proxy: Between
) -> None:
    """A name that was given to another blob meanwhile stays with it."""
    others.make(MIGRATING)
    server.refresh()
    others.upload(DATA)
    name = digest_of(SHA1, DATA)
    obstore.put(others.client, name_key(name), f"{NAME}\n".encode())
    other = digest_of(SHA256, b"another")
    give = partial(obstore.put, others.client, name_key(name), f"{other}\n".encode())
    left = before(proxy, name_key(name), {("GET", 2): give})
    assert not list(server.settle_names())
    assert not left
    assert dict(others.links(SHA1))[name] == other


def test_a_wrong_name(others: Server) -> None:
    """A name that led to another blob is reported when its own blob gets it; one that led nowhere is not."""
    for data in (DATA, b"another"):
        others.upload(data)
    one = others.hashed(others.stat(PRIMARY))
    for target, expected in ((b"another", [NAME]), (b"never added", [])):
        obstore.put(others.client, name_key(NAME), f"{primary(target)}\n".encode())
        mended: list[Digest] = []
        assert others.give_names([one], mended) == {PRIMARY: []}
        assert mended == expected
        assert content(others, NAME) == DATA
