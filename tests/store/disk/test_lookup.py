"""Finding and renewing many blobs on a disk, with odd things in their places and others at work."""

import errno
import fcntl
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.support.crossing import crossed
from tests.support.cuts import cuttable, kinds
from tests.support.kinds import digest_of, put
from tests.support.users import as_nobody
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.contract import Durability
from wsgi_store.store.disk import lookup
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import neighbours

SHA256, SHA512 = Algorithm.SHA256, Algorithm.SHA512
BESIDE = neighbours(SHA256, 3)
SOME = [*BESIDE, *(b"%d" % number * 100 for number in range(300))]
OLD = 1_000_000.0


class Filled:
    """A store with some old blobs."""

    def __init__(self, root: Path, durability: Durability = Durability.FULL) -> None:
        self.root = root
        self.store = LocalStore(str(root), SHA256, durability)
        staging = Staging(self.store, durability=durability)
        self.sizes = {put(staging, data).digest: len(data) for data in SOME}
        for digest in self.sizes:
            os.utime(self.path(digest), (OLD, OLD))

    def path(self, digest: Digest) -> Path:
        """Where a name lies."""
        return self.root / digest.hex[:2] / digest.hex

    def migrate(self) -> None:
        """Begin to name the blobs by sha512, and give two of three their new names."""
        self.store.change_marker(
            lambda marker: Marker(SHA512, (SHA256,), migrating=SHA256, since=0.0, made=marker.made)
        )
        for data in SOME[::3] + SOME[1::3]:
            digests = {algorithm: digest_of(algorithm, data) for algorithm in (SHA256, SHA512)}
            with_stamp = Hashed(digests[SHA256], self.stamp(digests[SHA256]), digests)
            assert self.store.adopt([with_stamp]) == [Adopted.NAMED]

    def stamp(self, digest: Digest) -> object:
        """What identifies a file."""
        reader = self.store.open(digest)
        reader.close()
        return reader.stamp

    def modified(self) -> set[Digest]:
        """The blobs that are not old any more."""
        return {digest for digest in self.sizes if self.store.stat(digest).modified != OLD}


@pytest.fixture(name="filled")
def fixture_filled(root: Path) -> Filled:
    """A store with some old blobs."""
    return Filled(root, Durability.NONE)


def pipe(path: Path) -> None:
    """Make a named pipe, whose opening waits for a writer."""
    os.mkfifo(path)


ODD: list[Callable[[Path], object]] = [
    Path.mkdir,
    pipe,
    lambda path: path.symlink_to("nowhere"),
    lambda path: path.symlink_to(path.parent),
    lambda path: path.symlink_to(path),
    lambda path: path.symlink_to("/etc/passwd"),
    lambda path: path.symlink_to(f"../00/{'0' * 64}"),
]


@pytest.mark.parametrize("make", ODD)
def test_odd_things_in_place_of_files(filled: Filled, make: Callable[[Path], object]) -> None:
    """What is no regular file of the store is no blob, and disturbs no other."""
    odd = digest_of(SHA256, BESIDE[1])
    filled.path(odd).unlink()
    make(filled.path(odd))
    left = {digest: size for digest, size in filled.sizes.items() if digest != odd}
    assert filled.store.sizes(filled.sizes) == left
    assert filled.store.renew_all(filled.sizes) == left.keys()


@pytest.mark.parametrize("make", [Path.touch, *ODD[1:]])
def test_odd_things_in_place_of_a_shard(filled: Filled, make: Callable[[Path], object]) -> None:
    """A shard that is no directory has no blobs."""
    shard = filled.path(digest_of(SHA256, BESIDE[0])).parent
    shutil.rmtree(shard)
    make(shard)
    left = {digest: size for digest, size in filled.sizes.items() if filled.path(digest).parent != shard}
    assert len(left) <= len(filled.sizes) - len(BESIDE)
    assert filled.store.sizes(filled.sizes) == left
    assert filled.store.renew_all(filled.sizes) == left.keys()


def test_a_disk_that_is_gone(filled: Filled) -> None:
    """An unmounted disk is no empty store."""
    filled.root.rename(filled.root.with_name("away"))
    for ask in (lambda: filled.store.sizes(filled.sizes), lambda: filled.store.renew_all(filled.sizes)):
        with pytest.raises(StoreUnavailable):
            ask()
    filled.root.with_name("away").rename(filled.root)


def test_each_directory_is_opened_once(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blobs of a shard are asked for."""
    opened: Counter[str] = Counter()
    real = os.open

    def counted(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        opened[path] += dir_fd is None
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", counted)
    assert filled.store.sizes(filled.sizes) == filled.sizes
    assert set(opened.values()) == {1}


@pytest.mark.parametrize("late", [False, True])
def test_a_migration_that_this_process_has_not_seen(filled: Filled, late: bool) -> None:
    """Blobs are found by both names, also if it begins while they are looked for."""
    other = LocalStore(str(filled.root), None)
    asked = {digest_of(one, data): len(data) for data in SOME for one in (SHA256, SHA512)}
    waiting = {digest_of(SHA512, data) for data in SOME[2::3]}
    expected = {digest: size for digest, size in asked.items() if digest not in waiting}
    if late:
        first = min(filled.sizes, key=lambda digest: digest.raw).hex
        with crossed(os, "stat", lambda path, *_: path == first, filled.migrate) as seen:
            assert other.sizes(asked) == expected
        assert seen
    else:
        filled.migrate()
        assert other.sizes(asked) == expected
    assert other.sizes(asked) == expected


def test_renewing_during_a_migration(filled: Filled) -> None:
    """Blobs with their primary names are renewed by either; the others need an upload."""
    other = LocalStore(str(filled.root), None, Durability.FULL)
    filled.migrate()
    asked = {digest_of(one, data): len(data) for data in SOME for one in (SHA256, SHA512)}
    waiting = {digest_of(one, data) for data in SOME[2::3] for one in (SHA256, SHA512)}
    assert other.renew_all(asked) == asked.keys() - waiting
    assert filled.modified() == filled.sizes.keys() - waiting


@pytest.mark.parametrize("durability", Durability)
def test_each_file_and_directory_is_synced_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    """All files get their times first; then each is synced, and each directory after its files."""
    filled = Filled(root, durability)
    done: list[str] = []
    real, touch = os.fsync, os.utime

    def fsync(fd: int) -> None:
        real(fd)
        done.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), root))

    def utime(fd: int) -> None:
        assert not done
        touch(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "utime", utime)
    assert filled.store.renew_all(filled.sizes) == filled.sizes.keys()
    files = [f"{digest.hex[:2]}/{digest.hex}" for digest in filled.sizes]
    shards = {file[:2] for file in files} if durability is Durability.FULL else set()
    assert sorted(done) == sorted([*files, *shards] if durability is not Durability.NONE else [])
    for shard in shards:
        assert max(done.index(file) for file in files if file.startswith(shard)) < done.index(shard)


def test_a_sync_that_fails(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on the disk is not acknowledged."""
    filled = Filled(root)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="cannot renew the blobs"):
        filled.store.renew_all(filled.sizes)


def shared(_: int, operation: int) -> bool:
    """Whether this call of flock(2) waits for a shared lock."""
    return operation == fcntl.LOCK_SH


def test_blobs_that_change_before_they_are_renewed(filled: Filled) -> None:
    """One that is removed is not renewed, one that is replaced is; a shard may go and come back."""
    removed, healed, _ = (digest_of(SHA256, data) for data in BESIDE)
    shard = filled.path(removed).parent

    def change() -> None:
        filled.store.remove(removed)
        shutil.copy(filled.path(healed), shard / "copy")
        (shard / "copy").rename(filled.path(healed))

    # The first such lock keeps the marker.
    with crossed(fcntl, "flock", shared, lambda: None) as first:
        with crossed(lookup, "_touch", lambda tree, names, sizes: removed in names, change) as seen:
            assert filled.store.renew_all(filled.sizes) == filled.sizes.keys() - {removed}
    assert first and seen

    def away() -> None:
        shutil.move(shard, shard.with_name("away"))

    with crossed(lookup, "_touch", lambda tree, names, sizes: healed in names, away) as seen:
        left = {digest for digest in filled.sizes if filled.path(digest).parent != shard}
        assert filled.store.renew_all(filled.sizes) == left
    assert seen
    shutil.rmtree(shard, ignore_errors=True)
    shutil.move(shard.with_name("away"), shard)
    assert filled.store.renew_all(filled.sizes) == filled.sizes.keys() - {removed}


def test_a_renewed_blob_does_not_expire(filled: Filled) -> None:
    """Whoever expires a blob waits while its shard is renewed, and then sees the new time."""
    digest = digest_of(SHA256, BESIDE[1])
    expired: list[bool] = []
    thread = threading.Thread(target=lambda: expired.append(filled.store.expire(digest, OLD)))

    def expire() -> None:
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()

    with crossed(lookup, "touch", lambda fd: True, expire):
        assert digest in filled.store.renew_all({digest: len(BESIDE[1])})
    thread.join()
    assert expired == [False]
    assert filled.store.stat(digest).modified != OLD


def test_expiring_and_renewing_at_once(filled: Filled) -> None:
    """In any order a blob that was renewed is there, and one that expired was not."""
    random = Random(5)
    for _ in range(10):
        order = sorted(filled.sizes, key=lambda digest: random.random())
        expired: set[Digest] = set()
        thread = threading.Thread(
            target=lambda order=order, expired=expired: expired.update(
                digest for digest in order if filled.store.expire(digest, OLD)
            )
        )
        thread.start()
        time.sleep(random.random() / 100)
        renewed = filled.store.renew_all(filled.sizes)
        thread.join()
        assert not renewed & expired
        assert renewed | expired == filled.sizes.keys()
        assert filled.store.sizes(filled.sizes).keys() == renewed
        staging = Staging(filled.store, durability=Durability.NONE)
        for data in SOME:
            put(staging, data)
        for digest in filled.sizes:
            os.utime(filled.path(digest), (OLD, OLD))


def test_files_of_another_user(memory: Path) -> None:
    """A file whose time this user cannot set needs an upload, which replaces it."""
    filled = Filled(memory / "store", Durability.NONE)
    own = digest_of(SHA256, BESIDE[0])
    os.chown(filled.path(own), 65534, 65534)
    with as_nobody(filled.root):
        assert filled.store.renew_all(filled.sizes) == {own}
    assert filled.modified() == {own}


@pytest.mark.races
@pytest.mark.parametrize("kind", kinds())
def test_a_power_cut_after_renewing(memory: Path, kind: str) -> None:
    """Renewed blobs keep their new times, and copied ones their bytes, if the machine stops right after."""
    with cuttable(kind, memory) as disk:
        filled = Filled(disk.path / "store")
        store = filled.store
        store.change_marker(lambda marker: replace(marker, names=(SHA512,)))
        disk.sync()
        copied = b"copied and not synced"
        path = filled.path(digest_of(SHA256, copied))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(copied)
        asked = filled.sizes | {digest_of(SHA256, copied): len(copied)}
        assert store.renew_all(asked) == asked.keys()
        disk.cut()
        disk.restart()
        assert path.read_bytes() == copied
        assert store.sizes(asked) == asked
        assert filled.modified() == filled.sizes.keys()
