"""Announced lengths are promised room, and each caller has limits."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.support.faults import disk, without_inodes
from tests.support.servers import until
from tests.support.uploads import DATA, HALF, Service
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StorageFull, StoreError, TooLarge, TooManyUploads
from wsgi_store.uploads import room
from wsgi_store.uploads.events import Event
from wsgi_store.uploads.listed import PROMISED
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.room import Limits, Room

MIB = 1 << 20


@pytest.fixture(name="small", scope="module")
def fixture_small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of 16 MiB."""
    target = tmp_path_factory.mktemp("disks") / "small"
    with disk("tmpfs", target, 16 * MIB):
        yield target


@pytest.fixture(name="root")
def fixture_root(small: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory for a store on that disk."""
    root = small / f"store-{abs(hash(request.node.name))}"
    yield root
    shutil.rmtree(root)


def chunks(size: int) -> Iterator[bytes]:
    """A body in pieces."""
    for _ in range(size // MIB):
        yield bytes(MIB)


def test_what_was_announced_is_kept(root: Path) -> None:
    """Nothing else gets the room that was announced, in any process, and the upload itself gets it."""
    first, second = Service(root), Service(root)
    for service in (first, second):
        assert service.room.promised() == 0
    upload = first.begin(bytes(MIB), length=10 * MIB)
    for service in (first, second):
        with pytest.raises(StorageFull) as caught:
            service.begin(b"", length=10 * MIB)
        assert caught.value.evidence["needed"] == 10 * MIB
        assert caught.value.evidence["promised"] == 9 * MIB
        assert caught.value.evidence["available"] < 7 * MIB
        with pytest.raises(StorageFull):
            service.staging.receive(chunks(10 * MIB), length=10 * MIB)
        with pytest.raises(StorageFull):
            service.staging.receive(chunks(10 * MIB))
        assert service.staging.receive(chunks(2 * MIB), length=2 * MIB).size == 2 * MIB
    assert second.uploads.find("me", upload.identity).append(chunks(9 * MIB), MIB).receipt is not None
    assert first.names() == second.names() == sorted({*first.names()})
    # It takes a second until another process sees that the room is used now.
    with mock.patch.object(time, "monotonic", lambda: 1e12):
        assert first.room.promised() == 0


def test_a_promise_lapses(root: Path) -> None:
    """Ten minutes after its last byte the room of an upload is anybody's; the upload stays."""
    service = Service(root)
    upload = service.begin(bytes(MIB), length=10 * MIB)
    service.age(upload, PROMISED + 1)
    other = Service(root).begin(bytes(MIB), length=10 * MIB)
    taken: list[bytes] = []

    def body() -> Iterator[bytes]:
        taken.append(b"")
        yield bytes(9 * MIB)

    with pytest.raises(StorageFull) as caught:
        upload.append(body(), MIB)
    assert caught.value.evidence["promised"] == 9 * MIB
    assert not taken
    assert upload.state().offset == MIB
    other.remove()
    assert upload.append(body(), MIB).receipt is not None


def test_a_promise_comes_back(root: Path) -> None:
    """An upload that continues is promised its room again, and other processes know within a second."""
    first, second = Service(root), Service(root)
    upload = first.begin(bytes(MIB), length=10 * MIB)
    first.age(upload, PROMISED + 1)
    for service in (first, second):
        until(lambda one=service: one.room.promised() == 0, "the promise to lapse")  # type: ignore[misc]

    def body() -> Iterator[bytes]:
        yield bytes(MIB)
        yield bytes(MIB)
        for one in (first, second):
            until(lambda one=one: one.room.promised() == 7 * MIB, "the promise")  # type: ignore[misc]

    upload.append(body(), MIB)


def test_a_length_that_is_told_later(root: Path) -> None:
    """Room is promised when the length becomes known, and only if there is room."""
    first, second = Service(root), Service(root)
    upload = first.begin(bytes(MIB), length=None)
    assert second.room.promised() == 0
    with pytest.raises(StorageFull):
        upload.append(iter([bytes(MIB)]), MIB, length=100 * MIB)
    assert second.uploads.find("me", upload.identity).announced.length is None
    assert upload.state().offset == MIB
    second.begin(b"", length=MIB).remove()
    first.uploads.find("me", upload.identity).append(iter([bytes(MIB)]), MIB, length=10 * MIB)
    for service in (first, second):
        until(lambda one=service: one.room.promised() == 8 * MIB, "the promise")  # type: ignore[misc]
        with pytest.raises(StorageFull):
            service.begin(b"", length=10 * MIB)


def test_one_without_a_length_leaves_promised_room(root: Path) -> None:
    """What arrives for an upload of unknown length does not take the room of others."""
    service = Service(root)
    service.begin(b"", length=10 * MIB)
    upload = service.begin(b"", length=None)
    with pytest.raises(StorageFull):
        upload.append(chunks(10 * MIB), 0)
    with pytest.raises(StorageFull):
        upload.append(chunks(10 * MIB), upload.state().offset, incoming=10 * MIB)
    assert 3 * MIB < upload.state().offset < 7 * MIB


def test_parts_need_room_to_be_joined(root: Path) -> None:
    """The parts of an upload that was taken over are copied at the end, for which room is promised, too."""
    service = Service(root)
    upload = service.begin(bytes(MIB), length=5 * MIB)
    (service.path(upload) / "0.end").mkdir()
    (service.path(upload) / "0.end" / str(MIB)).touch()
    (service.path(upload) / "1").touch()
    other = Service(root)
    assert other.room.promised() == (4 + 5) * MIB
    with pytest.raises(StorageFull):
        other.begin(b"", length=7 * MIB)


def test_shortage_removes_what_has_expired(root: Path) -> None:
    """If room is short, expired uploads go, but neither results nor uploads without a promise."""
    service = Service(root, Limits(expires=7200))
    expired = service.begin(bytes(6 * MIB), length=7 * MIB)
    lapsed = service.begin(bytes(3 * MIB), length=7 * MIB)
    done = service.begin(b"?", length=1)
    service.age(expired, 7201)
    service.age(lapsed, 7100)
    service.age(done, 7100)
    assert service.staging.receive(chunks(12 * MIB), length=12 * MIB).size == 12 * MIB
    assert Event.EXPIRED in service.told
    assert lapsed.state().offset == 3 * MIB
    assert done.state().receipt is not None
    with pytest.raises(StorageFull):
        service.staging.receive(chunks(12 * MIB), length=12 * MIB)
    assert lapsed.state().offset == 3 * MIB


def test_a_shortage_is_told_even_if_no_sweep_is_possible(root: Path) -> None:
    """Whatever a sweep meets, the answer is that the disk is full."""
    service = Service(root)
    service.begin(b"", length=10 * MIB)
    with mock.patch.object(Room, "sweep", side_effect=StoreError("cannot sweep")), pytest.raises(StorageFull):
        service.begin(b"", length=10 * MIB)


def test_it_is_ready_with_all_room_promised(root: Path) -> None:
    """A server stays ready: uploads that have the promises go on there."""
    service = Service(root)
    free = service.staging.free()
    assert free is not None
    service.begin(b"", length=free - MIB // 2)
    service.staging.check()


def test_without_inodes_nothing_is_begun(tmp_path: Path) -> None:
    """A creation that lacks inodes is refused as a full disk, and leaves nothing."""
    target = tmp_path / "disk"
    with disk("tmpfs", target, 16 * MIB, inodes=600):
        service = Service(target / "store")
        upload = service.begin()
        before = service.names()
        with without_inodes(target):
            with pytest.raises(StorageFull):
                service.begin()
            assert service.names() == before
            upload.remove()
            assert not list(service.directory.glob("*/*"))


def test_the_number_is_limited(tmp_path: Path) -> None:
    """Each caller has its own limit; finished uploads do not count."""
    service = Service(tmp_path / "store", Limits(count=3))
    uploads = [service.begin() for _ in range(3)]
    with pytest.raises(TooManyUploads) as caught:
        service.begin()
    assert caught.value.evidence == {"limit": 3}
    service.uploads.create("somebody else", FileInfo())
    uploads[0].append([DATA[HALF:]], HALF)
    service.begin()
    with pytest.raises(TooManyUploads):
        service.begin()
    uploads[1].remove()
    service.begin()


def test_one_that_exists_is_found_at_the_limit(tmp_path: Path) -> None:
    """A caller at its limit may continue its uploads."""
    service = Service(tmp_path / "store", Limits(count=1))
    expected = (Algorithm.SHA256.parse("0" * 64),)
    upload = service.begin(expected=expected)
    assert service.begin(b"", expected=expected).identity == upload.identity


def test_an_old_look_refuses_nothing(tmp_path: Path) -> None:
    """A process that has not yet seen that another finished an upload looks again before it refuses."""
    first, second = (Service(tmp_path / "store", Limits(count=1)) for _ in range(2))
    upload = first.begin()
    with pytest.raises(TooManyUploads):
        second.begin()
    upload.append([DATA[HALF:]], HALF)
    second.begin()


def test_bytes_are_limited(tmp_path: Path) -> None:
    """What was received and announced counts, and of uploads without a length what arrives."""
    service = Service(tmp_path / "store", Limits(size=10 * MIB))
    service.begin(bytes(MIB), length=6 * MIB)
    with pytest.raises(TooManyUploads) as caught:
        service.begin(b"", length=5 * MIB)
    assert caught.value.evidence == {"limit_bytes": 10 * MIB, "needed": 11 * MIB}
    unknown = service.begin(bytes(MIB), length=None)
    with pytest.raises(TooManyUploads):
        unknown.append(chunks(6 * MIB), MIB)
    assert unknown.state().offset == 4 * MIB
    with pytest.raises(TooManyUploads):
        unknown.append(chunks(MIB), 4 * MIB, length=5 * MIB)
    assert service.uploads.find("me", unknown.identity).announced.length is None
    unknown = service.uploads.find("me", unknown.identity)
    assert unknown.append([b""], 4 * MIB, length=4 * MIB).receipt is not None
    with pytest.raises(TooLarge):
        service.begin(b"", length=100, max_size=99)


def test_creations_at_once_keep_to_the_limit(tmp_path: Path) -> None:
    """Of many creations at once, by several processes, as many succeed as the limit says."""
    services = [Service(tmp_path / "store", Limits(count=5)) for _ in range(4)]
    made: list[str] = []

    def create(service: Service) -> None:
        for _ in range(4):
            try:
                made.append(service.begin(b"").identity)
            except TooManyUploads:
                made.append("")

    threads = [threading.Thread(target=create, args=(service,)) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 16
    assert len([one for one in made if one]) == 5 == len(list(services[0].directory.glob("*/*")))


def test_a_stopped_process_stops_no_creation(tmp_path: Path) -> None:
    """A creation waits a second for others at most: one that holds the lock may be stopped."""
    service = Service(tmp_path / "store")
    service.begin()
    with mock.patch.object(room.removal, "PATIENCE", 0.1), room.removal.alone(str(service.directory)):
        begin = time.monotonic()
        service.begin(b"")
        assert time.monotonic() - begin < 5


def test_a_look_is_seldom(tmp_path: Path) -> None:
    """Without uploads nothing is looked up; with some, nothing again until something has changed."""
    looks = mock.Mock(side_effect=room.look)
    lists = mock.Mock(side_effect=room._paths)  # pylint: disable=protected-access
    with mock.patch.multiple(room, look=looks, _paths=lists, AGE=100.0, TICK=0.0, PAUSE_FACTOR=0):
        service = Service(tmp_path / "store")
        for number in range(10):
            service.staging.receive([b"%d" % number], length=1)
        assert not looks.called
        for _ in range(3):
            service.begin()
        service.room.promised()
        looks.reset_mock()
        lists.reset_mock()
        for number in range(100):
            service.staging.receive([b"%02d" % number], length=2)
        assert not looks.called
        assert lists.call_count <= 1


def test_threads_share_a_look(tmp_path: Path) -> None:
    """Who asks while another thread looks gets the view before; those who need a new one share the next."""
    service = Service(tmp_path / "store")
    service.begin(b"", length=90)
    looking, go_on = threading.Event(), threading.Event()
    looks: list[str] = []

    def slow(path: str, *known: object) -> object:
        looks.append(path)
        looking.set()
        assert go_on.wait(10)
        return real(path, *known)  # type: ignore[arg-type]

    real = room.look
    with mock.patch.multiple(room, AGE=0.0, AGE_FACTOR=0, PAUSE_FACTOR=0):
        until(lambda: service.room.promised() == 90, "a first look")
        threads = [threading.Thread(target=service.room.make_room) for _ in range(3)]
        with mock.patch.object(room, "look", slow):
            threads[0].start()
            assert looking.wait(10)
            for thread in threads[1:]:
                thread.start()
            assert service.room.promised() == 90
            time.sleep(0.1)  # the others wait for the first
            go_on.set()
            for thread in threads:
                thread.join()
    assert len(looks) == 2


def test_a_directory_that_vanishes_has_no_uploads(tmp_path: Path) -> None:
    """A disk that is unmounted between two calls has no uploads."""
    with mock.patch.object(os, "access", lambda *_: True):
        assert Room(str(tmp_path / "nowhere")).promised() == 0
