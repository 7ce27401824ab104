"""Uploads expire, counted from their last byte, and never while a request holds them."""

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from tests.support.uploads import DATA, HALF, Service
from wsgi_store.digest import Algorithm
from wsgi_store.errors import UploadLocked, UploadNotFound
from wsgi_store.uploads import records, removal
from wsgi_store.uploads.events import Event
from wsgi_store.uploads.room import Limits


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Service:
    """A process whose uploads expire after an hour."""
    return Service(tmp_path / "store", Limits(expires=3600))


def test_it_counts_from_the_last_byte(service: Service) -> None:
    """A byte prolongs the life of an upload; asking does not."""
    upload = service.begin()
    service.age(upload, 3000)
    state = upload.state()
    assert state.expires == pytest.approx(time.time() + 600, abs=5)
    assert upload.append([DATA[HALF:-1]], HALF).expires == pytest.approx(time.time() + 3600, abs=5)


def test_an_empty_one_counts_from_its_creation(service: Service) -> None:
    """An upload that never got a byte expires, too."""
    upload = service.begin(b"")
    assert upload.state().expires == pytest.approx(time.time() + 3600, abs=5)
    service.age(upload, 3601)
    service.uploads.sweep()
    assert service.names() == []


def test_the_time_told_at_the_creation_holds(service: Service, tmp_path: Path) -> None:
    """A service with another setting keeps uploads as long as it said when they were created."""
    upload = service.begin()
    service.age(upload, 3000)
    other = Service(tmp_path / "store", Limits(expires=60))
    assert other.uploads.find("me", upload.identity).state().offset == HALF


def test_an_expired_one_is_gone(service: Service) -> None:
    """It is not found any more, swept or not."""
    upload = service.begin()
    service.age(upload, 3601)
    with pytest.raises(UploadNotFound):
        upload.append([DATA[HALF:]], HALF)
    assert service.told == [Event.CREATED, Event.EXPIRED]
    with pytest.raises(UploadNotFound):
        service.uploads.find("me", upload.identity)


def test_one_of_a_ticket_expires_with_it(service: Service) -> None:
    """The time of a ticket ends its upload even if bytes arrive, and the result of it."""
    until = time.time() + 5
    upload = service.begin(until=until)
    assert upload.state().expires == until
    state = upload.append([DATA[HALF:]], HALF)
    assert state.receipt is not None
    assert state.expires == upload.state().expires == until


def test_a_result_expires(service: Service) -> None:
    """The result is told for as long after the end as the upload would have been kept."""
    upload = service.begin()
    state = upload.append([DATA[HALF:]], HALF)
    assert state.expires == pytest.approx(time.time() + 3600, abs=5)
    service.age(upload, 3500)
    again = upload.state()
    assert again.receipt == state.receipt
    assert again.expires == pytest.approx(time.time() + 100, abs=5)
    service.age(upload, 3601)
    with pytest.raises(UploadNotFound):
        upload.state()
    assert not list(service.directory.glob("*/*"))


def test_a_new_one_takes_the_place_of_an_expired_one(service: Service) -> None:
    """The creation of an upload finds no expired one of the same file."""
    expected = (Algorithm.SHA256.parse("0" * 64),)
    upload = service.begin(expected=expected)
    service.age(upload, 3601)
    again = service.begin(b"", expected=expected)
    assert again.identity != upload.identity
    assert again.state().offset == 0
    assert service.told == [Event.CREATED, Event.EXPIRED, Event.CREATED]


def test_a_held_one_stays(service: Service) -> None:
    """An upload does not expire while a request holds it, however long ago its last byte arrived."""
    upload = service.begin()
    seen = threading.Event()
    go_on = threading.Event()

    def chunks() -> Iterator[bytes]:
        seen.set()
        assert go_on.wait(10)
        yield DATA[HALF:]

    results = []
    thread = threading.Thread(target=lambda: results.append(upload.append(chunks(), HALF)))
    thread.start()
    try:
        assert seen.wait(10)
        service.age(upload, 7200)
        service.uploads.sweep()
        assert not removal.expire(str(service.path(upload)), time.time())
    finally:
        go_on.set()
        thread.join()
    assert results[0].receipt is not None


def test_bytes_that_arrive_before_the_lock_is_free_count(service: Service) -> None:
    """A look at an upload is old when the sweep gets the lock: it looks again."""
    upload = service.begin()
    service.age(upload, 7200)
    service.uploads.room.unfinished()  # sees the old time
    upload_path = service.path(upload)
    os.utime(upload_path / "0")
    service.uploads.sweep()
    assert not removal.expire(str(upload_path), time.time())
    assert upload.state().offset == HALF


def test_a_removal_spares_a_successor(service: Service) -> None:
    """Of two removals the slower one leaves the directory that took the place of the upload."""
    path = service.path(service.begin())

    @contextmanager
    def late(_: str) -> Iterator[None]:
        path.rename(path.with_name("before"))
        path.mkdir()
        yield

    with mock.patch.object(removal, "alone", late), pytest.raises(FileNotFoundError):
        removal.remove(str(path))
    assert path.is_dir()


def test_a_newcomer_behind_the_removal_tells_nothing(service: Service) -> None:
    """A request that waits for the lock while the upload is removed cannot go on in what remains."""
    upload = service.begin()
    path = service.path(upload)
    kept = path.with_name("kept")
    fd = os.open(path / "0", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    results: list[object] = []

    def append() -> None:
        try:
            results.append(upload.append([DATA[HALF:-1]], HALF))
        except (UploadNotFound, UploadLocked) as error:
            results.append(error)

    thread = threading.Thread(target=append)
    with mock.patch.object(shutil, "rmtree", lambda gone, **_: os.rename(gone, kept)):
        thread.start()
        time.sleep(0.2)  # it has opened the directory and polls the lock
        removal.remove(str(path))
        os.close(fd)
        thread.join()
    assert isinstance(results[0], (UploadNotFound, UploadLocked))


def test_its_holder_learns_of_the_removal(service: Service) -> None:
    """A request whose upload is removed ends without acknowledging a byte."""
    upload = service.begin()

    def chunks() -> Iterator[bytes]:
        yield DATA[HALF:-1]
        upload.remove()

    with pytest.raises((UploadLocked, UploadNotFound)):
        upload.append(chunks(), HALF)
    assert service.told == [Event.CREATED, Event.REMOVED]


@pytest.mark.parametrize("full", [False, True], ids=["", "full"])
def test_one_removal_wins(service: Service, full: bool) -> None:
    """Of two removals one finds the upload, and a full disk does not keep it."""
    upload = service.begin()
    path = service.path(upload)
    new = os.O_WRONLY if full else records.NEW  # without O_CREAT: the mark cannot be made
    with mock.patch.object(removal.records, "NEW", new):
        removal.remove(str(path))
    with pytest.raises(FileNotFoundError):
        removal.remove(str(path))
    assert service.names() == [path.parent.name]


def test_one_without_its_record_blocks_nobody(service: Service) -> None:
    """What a power failure has left of an upload makes room for one of the same file, and expires."""
    expected = (Algorithm.SHA256.parse("0" * 64),)
    upload = service.begin(expected=expected)
    (service.path(upload) / "upload.json").unlink()
    assert service.begin(b"", expected=expected).state().offset == 0
    other = service.begin()
    (service.path(other) / "upload.json").unlink()
    service.age(other, 90000)
    service.uploads.sweep()
    assert not list(service.directory.glob(f"*/{other.identity}"))


def test_drafts_are_swept(service: Service) -> None:
    """What killed processes left of creations and removals goes; whatever is unknown or in use stays."""
    service.begin()
    before = service.names()
    old = time.time() - 2 * removal.DRAFT_AGE
    for name in (".gone-" + "a" * 32, "." + "b" * 32, "d" * 32):
        (service.directory / name).mkdir()
    (service.directory / ("." + "e" * 32)).write_bytes(b"a key")
    for path in service.directory.iterdir():
        os.utime(path, (old, old))
    in_use = "." + "c" * 32
    (service.directory / in_use).mkdir()
    strange = ["README", ".hidden", "f" * 31]
    for name in strange:
        (service.directory / name).mkdir()
        os.utime(service.directory / name, (old, old))
    service.uploads.sweep()
    assert service.names() == sorted([*before, in_use, *strange])


def test_a_directory_of_an_owner_may_be_swept_under_a_creation(service: Service) -> None:
    """If a sweep removed the empty directory of the owner, it is made again."""
    rename = os.rename
    swept: list[str] = []

    def renamed(source: str, target: str, **places: int) -> None:
        if not places and not swept:
            swept.append(os.path.dirname(target))
            os.rmdir(swept[0])
        rename(source, target, **places)

    with mock.patch.object(os, "rename", renamed):
        assert service.begin(b"").state().offset == 0
    assert swept


def test_results_are_limited(tmp_path: Path) -> None:
    """Each owner keeps as many of the last results as it may have unfinished uploads."""
    service = Service(tmp_path / "store", Limits(count=2))
    results = []
    for number in range(4):
        upload = service.begin(b"", length=1)
        upload.append([b"%d" % number], 0)
        service.age(upload, 100 - number)
        results.append(upload)
    service.uploads.sweep()
    for upload in results[:2]:
        with pytest.raises(UploadNotFound):
            upload.state()
    for upload in results[2:]:
        assert upload.state().receipt is not None


def test_a_damaged_one_keeps_no_sweep(service: Service) -> None:
    """A sweep passes over what a power failure damaged."""
    damaged = service.begin()
    (service.path(damaged) / "0.end").mkdir()
    (service.path(damaged) / "0.end" / "?").touch()
    upload = service.begin()
    service.age(upload, 3601)
    service.uploads.sweep()
    assert [path.name for path in service.directory.glob("*/*")] == [damaged.identity]
    damaged.discard()
    assert service.told[-1] is Event.REMOVED
