"""The order of fsync(2): the file before it gets its name, the directory afterwards."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kinds import LocalKind, put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import IncompleteBody, StoreUnavailable
from wsgi_store.staging import Receipt
from wsgi_store.store.contract import Durability
from wsgi_store.store.disk.store import LocalStore

DATA = b"some bytes"


class Spy:
    """Records changes to files, by their names relative to `root`."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.done: list[str] = []
        self._fsync, self._link, self._mkdir = os.fsync, os.link, os.mkdir
        for name in ("fsync", "link", "mkdir"):
            patch.setattr(os, name, getattr(self, name))

    def name(self, path: str) -> str:
        """A short name of a path."""
        relative = os.path.relpath(path, self.root)
        return "staged" if relative.startswith(".staging/") else relative

    def fsync(self, fd: int) -> None:
        """Record a sync, then do it."""
        self.done.append("fsync " + self.name(os.readlink(f"/proc/self/fd/{fd}")))
        self._fsync(fd)

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """Create a directory and record it."""
        self._mkdir(path, mode, dir_fd=dir_fd)
        around = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        self.done.append("mkdir " + self.name(os.path.join(around, path)))

    def link(self, source: str, target: str, *, dst_dir_fd: int | None = None, **options: bool) -> None:
        """Link a file and record it."""
        self._link(source, target, dst_dir_fd=dst_dir_fd, **options)
        self.done.append("link " + os.path.basename(target))

    def take(self) -> list[str]:
        """The records since the last call."""
        done, self.done = self.done, []
        return done


@pytest.mark.parametrize("durability", Durability)
def test_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability) -> None:
    """verify syncs its note before it ends: the file first, then its name."""
    store = LocalStore(str(tmp_path), Algorithm.MD5, durability)
    spy = Spy(tmp_path, monkeypatch)
    rename = os.rename

    def renamed(*names: str, **options: int) -> None:
        rename(*names, **options)
        spy.done.append("rename")

    monkeypatch.setattr(os, "rename", renamed)
    store.update_note(".note", lambda _: b"note")
    synced = {
        Durability.FULL: ["fsync staged", "rename", "fsync ."],
        Durability.FILE: ["fsync staged", "rename"],
        Durability.NONE: ["rename"],
    }
    assert spy.done == synced[durability]


@pytest.fixture(name="spy")
def fixture_spy(tmp_path: Path) -> Iterator[Spy]:
    """A spy on all file changes during the test."""
    with pytest.MonkeyPatch.context() as patch:
        yield Spy(tmp_path / "a" / "store", patch)


def test_full(kind: LocalKind, spy: Spy) -> None:
    """The file is synced before it gets its name, the directory after it, on a dedup hit as well."""
    store = kind.open(spy.root, Algorithm.MD5)
    staging = kind.staging(store)
    spy.take()
    hash_ = put(staging, DATA).digest.hex
    shard = hash_[:2]
    assert spy.take() == [
        "fsync staged",
        f"mkdir {shard}",
        "fsync .",
        f"link {hash_}",
        f"fsync {shard}",
    ]
    # Whoever linked the blob or copied it here may not have synced it.
    put(staging, DATA)
    assert spy.take() == ["fsync staged", f"fsync {shard}/{hash_}", f"fsync {shard}"]
    store.remove(next(store.iterate()).digest)
    assert spy.take() == [f"fsync {shard}"]
    put(staging, DATA)
    assert spy.take() == ["fsync staged", f"link {hash_}", f"fsync {shard}"]


def test_a_batch(kind: LocalKind, spy: Spy) -> None:
    """Every file is synced before any gets its name; then each directory once, and held files."""
    store = kind.open(spy.root, Algorithm.MD5)
    staging = kind.staging(store)
    held = put(staging, DATA).digest.hex
    spy.take()
    files = [*(b"%d" % number for number in range(100)), DATA]
    outcomes = staging.receive_all(([data], ()) for data in files)
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    hashes = [outcome.digest.hex for outcome in outcomes if isinstance(outcome, Receipt)]
    done = spy.take()
    assert done[:101] == ["fsync staged"] * 101
    linked = [entry for entry in done if entry.startswith("link")]
    assert linked == [f"link {hash_}" for hash_ in hashes[:100]]
    last = done.index(linked[-1])
    made = done[101 : done.index(linked[0])]
    shards = {hash_[:2] for hash_ in hashes}
    assert sorted(made[:-1]) == sorted(f"mkdir {shard}" for shard in shards - {held[:2]})
    assert made[-1] == "fsync ."
    assert sorted(done[last + 1 :]) == sorted(
        [f"fsync {held[:2]}/{held}", *(f"fsync {shard}" for shard in shards)]
    )


def test_a_shard_made_by_another_process(kind: LocalKind, spy: Spy) -> None:
    """The name of a shard that another process created is synced before the store relies on it."""
    put(kind.staging(kind.open(spy.root, Algorithm.MD5)), DATA)
    store = kind.open(spy.root, Algorithm.MD5)
    staging = kind.staging(store)
    spy.take()
    hash_ = put(staging, DATA).digest.hex
    shard = hash_[:2]
    assert spy.take() == ["fsync staged", "fsync .", f"fsync {shard}/{hash_}", f"fsync {shard}"]


def test_the_shards_of_a_store_that_was_there(kind: LocalKind, spy: Spy) -> None:
    """After a start the root is synced once for all existing shards."""
    blobs = [b"%d" % number for number in range(20)]
    first = kind.staging(kind.open(spy.root, Algorithm.MD5))
    for blob in blobs:
        put(first, blob)
    shards = sum(entry.startswith("mkdir") for entry in spy.take()) - 2
    staging = kind.staging(kind.open(spy.root, Algorithm.MD5))
    spy.take()
    for blob in blobs:
        put(staging, blob)
    assert spy.take().count("fsync .") == 1 < shards


@pytest.mark.parametrize("durability", [Durability.FILE, Durability.NONE])
def test_less_than_full(kind: LocalKind, spy: Spy, durability: Durability) -> None:
    """`file` syncs only files, `none` syncs nothing."""
    store = kind.open(spy.root, Algorithm.MD5, durability)
    staging = kind.staging(store, durability)
    spy.take()
    digest = put(staging, DATA).digest
    put(staging, DATA)
    store.remove(digest)
    hash_, shard = digest.hex, digest.hex[:2]
    if durability is Durability.FILE:
        assert spy.take() == [
            "fsync staged",
            f"mkdir {shard}",
            f"link {hash_}",
            "fsync staged",
            f"fsync {shard}/{hash_}",
        ]
    else:
        assert spy.take() == [f"mkdir {shard}", f"link {hash_}"]


def test_a_new_store(kind: LocalKind, spy: Spy) -> None:
    """A new store syncs the marker, its name and the names of all directories created on the way to it."""
    kind.open(spy.root, Algorithm.MD5)
    done = spy.take()
    assert done.index("fsync staged") < done.index("link store.json") < done.index("fsync .")
    assert done.index("mkdir .") < done.index("fsync ..")
    assert done.index("mkdir ..") < done.index("fsync ../..")
    kind.open(spy.root, Algorithm.MD5)
    assert not spy.take()


@pytest.mark.parametrize("failing", range(1, 4))
def test_a_sync_that_fails(kind: LocalKind, tmp_path: Path, failing: int) -> None:
    """An upload is not acknowledged when one of its three syncs fails."""
    store = kind.open(tmp_path / "store", Algorithm.MD5)
    staging = kind.staging(store)
    fsync = os.fsync
    calls = 0

    def fail(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            put(staging, DATA)
    assert calls == failing
    assert not os.listdir(store.staging_directory)
    put(staging, DATA)


def test_nothing_is_named_before_it_is_whole(kind: LocalKind, spy: Spy) -> None:
    """A failed upload never links a file, not even for a moment."""
    store = kind.open(spy.root, Algorithm.MD5)
    staging = kind.staging(store)
    spy.take()
    with pytest.raises(IncompleteBody):
        staging.receive([DATA], length=len(DATA) + 1)
    assert not spy.take()


def test_renewing(kind: LocalKind, spy: Spy) -> None:
    """A blob that is renewed is synced as on a dedup hit, its file and each directory that names it."""
    store = kind.open_named(spy.root, Algorithm.SHA256, [Algorithm.SHA512])
    assert isinstance(store, LocalStore)
    names = put(kind.staging(store), DATA).names
    for opened in (store, kind.open(spy.root, Algorithm.SHA256)):
        assert isinstance(opened, LocalStore)
        for name in names:
            spy.take()
            assert opened.renew(name, len(DATA))
            file = f"fsync {names[0].hex[:2]}/{names[0].hex}"
            shards = {f"fsync {one.hex[:2]}" for one in (names[0], name)}
            done = spy.take()
            assert [one for one in done if one != "fsync ."][0] == file
            assert set(done[done.index(file) + 1 :]) == shards


@pytest.mark.parametrize("durability", [Durability.FILE, Durability.NONE])
def test_renewing_with_less_durability(kind: LocalKind, spy: Spy, durability: Durability) -> None:
    """A renewed blob is synced as much as the durability says."""
    store = kind.open(spy.root, Algorithm.SHA256, durability)
    assert isinstance(store, LocalStore)
    digest = put(kind.staging(store, durability), DATA).digest
    spy.take()
    assert store.renew(digest, len(DATA))
    file = f"fsync {digest.hex[:2]}/{digest.hex}"
    assert spy.take() == ([file] if durability is Durability.FILE else [])
