"""The contract of a store, sentence by sentence, on every kind of store."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.kinds import EVERY_KIND, Kind, content, digest_of, neighbours, put, removed_by
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound, ConfigError, StoreError, StoreUnavailable
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Added, Blob, Durability, Store
from wsgi_store.store.open import open_store

pytestmark = pytest.mark.long(80)
DATA = bytes(range(256)) * 12


@pytest.fixture(name="kind", params=EVERY_KIND, ids=str)
def fixture_kind(request: pytest.FixtureRequest) -> Kind:
    """One kind of store after another."""
    kind: Kind = request.param
    return kind


# One algorithm whose duplicates are compared byte by byte, and one whose are not.
@pytest.fixture(name="algorithm", params=[Algorithm.MD5, Algorithm.SHA256], ids=lambda one: one.value)
def fixture_algorithm(request: pytest.FixtureRequest) -> Algorithm:
    """One algorithm after another."""
    algorithm: Algorithm = request.param
    return algorithm


@pytest.fixture(name="store")
def fixture_store(kind: Kind, algorithm: Algorithm, tmp_path: Path) -> Iterator[Store]:
    """An empty store; whatever a test does, no staged file may be left."""
    store = kind.open(tmp_path / "store", algorithm)
    yield store
    assert not os.listdir(store.staging_directory)


@pytest.fixture(name="staging")
def fixture_staging(kind: Kind, store: Store) -> Staging:
    """The way into the store."""
    return kind.staging(store)


def test_stat_describes_a_blob(store: Store, staging: Staging) -> None:
    """A blob has the digest and the size of its bytes and the time it was added."""
    before = time.time()
    digest = put(staging, DATA).digest
    blob = store.stat(digest)
    assert blob.digest == digest == digest_of(store.algorithm, DATA)
    assert blob.size == len(DATA)
    # The clock of a file system ticks more slowly than the other one.
    assert before - 2 <= blob.modified <= time.time() + 2


def test_stat_of_an_absent_blob(store: Store) -> None:
    """What was never added cannot be described."""
    with pytest.raises(BlobNotFound) as caught:
        store.stat(digest_of(store.algorithm, b"never added"))
    assert isinstance(caught.value, StoreError)
    assert caught.value.evidence == {"hash": digest_of(store.algorithm, b"never added").hex}


def test_open_of_an_absent_blob(store: Store) -> None:
    """What was never added cannot be opened."""
    with pytest.raises(BlobNotFound):
        store.open(digest_of(store.algorithm, b"never added"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    start=st.integers(0, len(DATA) + 2) | st.integers(0, 1 << 80),
    length=st.none() | st.integers(0, len(DATA) + 2) | st.integers(0, 1 << 80),
    size=st.integers(1, len(DATA) + 2),
)
def test_any_part_can_be_read(
    store: Store, staging: Staging, start: int, length: int | None, size: int
) -> None:
    """A part is what a slice of the bytes is, also beyond the end and however it is read."""
    digest = put(staging, DATA).digest
    part = DATA[start:] if length is None else DATA[start : start + length]
    with closing(store.open(digest, start, length)) as reader:
        assert reader.blob == store.stat(digest)
        read = b""
        while block := reader.read(size):
            assert len(block) <= size
            read += block
        assert read == part
        assert reader.read() == b""
    with closing(store.open(digest, start, length)) as reader:
        assert reader.read() == part


def test_an_empty_blob(store: Store, staging: Staging) -> None:
    """A blob without bytes is a blob like any other."""
    receipt = staging.receive([])
    assert (receipt.created, receipt.size) == (True, 0)
    assert receipt.digest == digest_of(store.algorithm, b"")
    assert store.stat(receipt.digest).size == 0
    assert content(store, receipt.digest) == content(store, receipt.digest, 5, 5) == b""
    assert put(staging, b"").created is False
    blob = store.stat(receipt.digest)
    assert store.remove(receipt.digest) == blob
    assert not list(store.iterate())


@pytest.mark.parametrize("offset", [len(DATA) - 1, 0, 3, len(DATA)])
def test_a_reader_goes_on_from_anywhere(store: Store, staging: Staging, offset: int) -> None:
    """A reader reads on from any byte of the blob, back or ahead."""
    with closing(store.open(put(staging, DATA).digest)) as reader:
        assert reader.read(5) == DATA[:5]
        assert reader.seek(offset) == offset
        assert reader.read(2) + reader.read() == DATA[offset:]


def test_a_reader_closes_twice(store: Store, staging: Staging) -> None:
    """Closing a reader again does no harm."""
    reader = store.open(put(staging, DATA).digest)
    reader.close()
    reader.close()


def test_a_reader_that_seeks(store: Store, staging: Staging) -> None:
    """A part can be read again from any of its bytes, and ends where it ended before."""
    with closing(store.open(put(staging, DATA).digest, 100, 50)) as reader:
        for offset in (100, 149, 120, 150):
            reader.seek(offset)
            assert reader.read(30) == DATA[offset : min(offset + 30, 150)]


def test_add_tells_what_is_new(kind: Kind, store: Store, staging: Staging) -> None:
    """The first upload of some bytes creates the blob, the second finds it and renews its time."""
    first = put(staging, DATA)
    blob = store.stat(first.digest)
    time.sleep(kind.tick)
    second = put(staging, DATA)
    assert (first.added, second.added) == (Added.CREATED, Added.HELD)
    assert first.digest == second.digest
    renewed = store.stat(first.digest)
    assert renewed.modified > blob.modified
    assert replace(renewed, modified=blob.modified) == blob
    assert content(store, first.digest) == DATA
    assert list(store.iterate()) == [renewed]


def test_a_blob_is_visible_only_whole(store: Store, staging: Staging) -> None:
    """Until the last byte is in and checked there is no blob."""

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(DATA), 512):
            yield DATA[at : at + 512]
            assert not list(store.iterate())
            with pytest.raises(BlobNotFound):
                store.stat(digest_of(store.algorithm, DATA))

    assert store.stat(staging.receive(chunks()).digest).size == len(DATA)


def test_threads_that_add_the_same_bytes(store: Store, staging: Staging) -> None:
    """Of 16 uploads at once of the same bytes exactly one creates the blob, every time."""
    with ThreadPoolExecutor(16) as pool:
        for round_ in range(20):
            data = DATA + bytes([round_])
            receipts = list(pool.map(lambda data: put(staging, data), [data] * 16))
            assert sum(receipt.created for receipt in receipts) == 1
            assert content(store, receipts[0].digest) == data


def test_adding_removing_and_reading_at_once(store: Store, staging: Staging) -> None:
    """In any order of uploads, removals and downloads each sees a whole blob or none."""
    digest = digest_of(store.algorithm, DATA)

    def churn(worker: int) -> int:
        balance = 0
        for turn in range(60):
            try:
                if (worker + turn) % 3 == 0:
                    balance += put(staging, DATA).created
                elif (worker + turn) % 3 == 1:
                    store.remove(digest)
                    balance -= 1
                else:
                    assert content(store, digest) == DATA
            except BlobNotFound:
                pass
        return balance

    with ThreadPoolExecutor(8) as pool:
        balance = sum(pool.map(churn, range(8)))
    # Each creation but the last was undone by exactly one removal.
    assert balance == len(list(store.iterate()))
    assert balance in (0, 1)


def test_remove(store: Store, staging: Staging) -> None:
    """Removing a blob twice fails the second time, and the bytes can be added anew."""
    digest = put(staging, DATA).digest
    other = put(staging, b"another").digest
    store.remove(digest)
    with pytest.raises(BlobNotFound):
        store.remove(digest)
    with pytest.raises(BlobNotFound):
        store.stat(digest)
    with pytest.raises(BlobNotFound):
        store.open(digest)
    assert [blob.digest for blob in store.iterate()] == [other]
    assert put(staging, DATA).created
    assert content(store, digest) == DATA


def test_remove_of_an_absent_blob(store: Store) -> None:
    """What was never added cannot be removed."""
    with pytest.raises(BlobNotFound):
        store.remove(digest_of(store.algorithm, b"never added"))


def test_removals_at_once(store: Store, staging: Staging) -> None:
    """Of 16 removals at once exactly one succeeds."""
    assert removed_by(store, put(staging, DATA).digest, 16) == 1


def test_removing_does_not_disturb_a_reader(store: Store, staging: Staging) -> None:
    """A blob removed while it is read still arrives whole."""
    digest = put(staging, DATA).digest
    with closing(store.open(digest)) as reader:
        head = reader.read(10)
        store.remove(digest)
        put(staging, DATA)
        store.remove(digest)
        assert head + reader.read() == DATA


def test_remove_on_a_condition(kind: Kind, store: Store, staging: Staging, tmp_path: Path) -> None:
    """A condition on a removal holds until the blob is gone: no upload of the same bytes comes between."""
    digest = put(staging, DATA).digest

    def refuse(blob: Blob) -> None:
        raise KeyError(blob.digest.hex)

    with pytest.raises(KeyError, match=digest.hex):
        store.remove(digest, refuse)
    assert content(store, digest) == DATA
    kind.age(tmp_path / "store", digest)
    with ThreadPoolExecutor(1) as pool:
        uploads: list[Future[Receipt]] = []

        def check(_: Blob) -> None:
            uploads.append(pool.submit(put, staging, DATA))
            assert not wait(uploads, 0.3).done

        store.remove(digest, check)
        assert uploads[0].result(20).added is Added.CREATED
    assert content(store, digest) == DATA


def test_expire(kind: Kind, store: Store, staging: Staging, tmp_path: Path) -> None:
    """A blob expires once, if it is the one that was looked at and was not uploaded since."""
    digest = put(staging, DATA).digest
    kind.age(tmp_path / "store", digest)
    then = store.stat(digest).modified
    assert store.expire(digest, then - 1) is False
    assert put(staging, DATA).added is Added.HELD
    assert store.expire(digest, then) is False
    assert content(store, digest) == DATA
    kind.age(tmp_path / "store", digest)
    then = store.stat(digest).modified
    assert store.expire(digest, then) is True
    assert store.expire(digest, then) is False
    assert not list(store.iterate())
    assert put(staging, DATA).added is Added.CREATED
    assert store.expire(digest, then) is False


def test_notes(store: Store) -> None:
    """A note is what was saved last under its name, and no blob."""
    assert store.load_note(".note") is None
    for data in (b"first", b"", b"second" * 1000):
        store.update_note(".note", lambda _, data=data: data)  # type: ignore[misc]
        assert store.load_note(".note") == data
    assert store.load_note(".other") is None
    assert not list(store.iterate())


def test_notes_are_updated_one_after_the_other(store: Store) -> None:
    """Of updates at the same time none is lost."""

    def count(note: bytes | None) -> bytes:
        number = int(note or b"0")
        time.sleep(0.001)
        return b"%d" % (number + 1)

    with ThreadPoolExecutor(4) as pool:
        for updated in [pool.submit(store.update_note, ".note", count) for _ in range(20)]:
            updated.result()
    assert store.load_note(".note") == b"20"


def test_iterate_an_empty_store(store: Store) -> None:
    """An empty store has no blobs."""
    assert not list(store.iterate())
    assert not list(store.iterate(digest_of(store.algorithm, b"")))


def test_iterate_in_order(store: Store, staging: Staging) -> None:
    """Blobs come in ascending order of digest, and `after` goes on behind any digest, held or not."""
    data = [str(number).encode() for number in range(40)] + neighbours(store.algorithm, 3)
    held = sorted({put(staging, one).digest.raw for one in data})
    blobs = list(store.iterate())
    assert [blob.digest.raw for blob in blobs] == held
    assert blobs == [store.stat(blob.digest) for blob in blobs]
    absent = [digest_of(store.algorithm, f"absent {number}".encode()) for number in range(10)]
    for after in [*absent, *(blob.digest for blob in blobs)]:
        assert list(store.iterate(after)) == [blob for blob in blobs if blob.digest.raw > after.raw]


def test_iterate_while_the_store_changes(store: Store, staging: Staging) -> None:
    """What stays all the time comes exactly once and in order, whatever else comes and goes."""
    alike = neighbours(store.algorithm, 9)
    staying, going, coming = alike[::3], alike[1::3], alike[2::3]
    staying += [f"stays {number}".encode() for number in range(20)]
    kept = {put(staging, data).digest for data in staying}
    gone = [put(staging, data).digest for data in going]
    seen = []
    for blob in store.iterate():
        seen.append(blob.digest)
        while gone:
            store.remove(gone.pop())
        while coming:
            put(staging, coming.pop())
    assert [digest.raw for digest in seen] == sorted({digest.raw for digest in seen})
    assert kept <= set(seen)


def test_iterate_skips_foreign_things(kind: Kind, store: Store, staging: Staging, tmp_path: Path) -> None:
    """What lies in a store without being a blob is not shown."""
    held = [put(staging, one).digest for one in (DATA, *neighbours(store.algorithm, 2))]
    kind.litter(tmp_path / "store", store.algorithm)
    assert {blob.digest for blob in store.iterate()} == set(held)


def test_stores_opened_anew_hold_the_same(kind: Kind, store: Store, staging: Staging, tmp_path: Path) -> None:
    """A store outlives the object that opened it."""
    put(staging, DATA)
    again = kind.open(tmp_path / "store", store.algorithm)
    assert list(again.iterate()) == list(store.iterate())
    assert put(kind.staging(again), DATA).created is False


def test_a_store_tells_its_algorithm(kind: Kind, tmp_path: Path) -> None:
    """Who does not know the algorithm of a store opens the one that is there, and makes none."""
    root = tmp_path / "unknown"
    with pytest.raises(StoreUnavailable, match="^there is no store at "):
        kind.open(root, None)
    kind.open(root, Algorithm.BLAKE2B)
    assert kind.open(root, None).algorithm is Algorithm.BLAKE2B


def test_open_store(tmp_path: Path) -> None:
    """A directory is opened as a store, and a kind of store unknown here is refused."""
    store = open_store(str(tmp_path / "store"), Algorithm.SHA1, Durability.NONE)
    assert store.algorithm is Algorithm.SHA1
    with pytest.raises(ConfigError, match=r"^WSGI_STORE_ROOT: .*'gopher'"):
        open_store("gopher://bucket", Algorithm.MD5, Durability.FULL)
