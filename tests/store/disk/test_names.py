"""Further names of blobs on a disk: links that the service reads and never follows."""

import fcntl
import json
import os
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, DigestCollision, StoreUnavailable, WrongStore
from wsgi_store.hashing import Hasher
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.contract import Added
from wsgi_store.store.disk import marker as markers
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import COLLIDING, DATA, content, put

MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256


def digest_of(algorithm: Algorithm, data: bytes) -> Digest:
    """The digest of some bytes."""
    hasher = Hasher(algorithm)
    hasher.update(data)
    return hasher.finish()


def path_of(store: LocalStore, digest: Digest) -> Path:
    """Where a name lies."""
    return Path(store.root, digest.hex[:2], digest.hex)


def is_link(path: Path, digest: Digest) -> bool:
    """Whether a path is the link of a further name to this primary one."""
    return path.is_symlink() and os.readlink(path) == f"../{digest.hex[:2]}/{digest.hex}"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store that names its blobs by sha256, and also by md5 and sha1."""
    return LocalStore(str(tmp_path / "store"), SHA256, names=[MD5, SHA1])


@pytest.fixture
def staging(store: LocalStore) -> Staging:
    """The staging of the store."""
    return Staging(store)


def names_of(data: bytes) -> tuple[Digest, ...]:
    """All names of some bytes in that store."""
    return tuple(digest_of(algorithm, data) for algorithm in (SHA256, MD5, SHA1))


def test_an_upload_gets_all_names(store: LocalStore, staging: Staging) -> None:
    """Each name finds the blob; the further ones are links, and the file is there once."""
    receipt = put(staging, DATA)
    names = names_of(DATA)
    assert (receipt.digest, receipt.names, receipt.added) == (names[0], names, Added.CREATED)
    for name in names:
        blob = store.stat(name)
        assert (blob.digest, blob.size, blob.names[0]) == (name, len(DATA), names[0])
        assert content(store, name) == DATA
    for name in names[1:]:
        assert is_link(path_of(store, name), names[0])
    assert [blob.digest for blob in store.iterate()] == [names[0]]
    assert [blob.names for blob in store.iterate(algorithm=MD5)] == [names[:2]]
    again = put(staging, DATA)
    assert (again.added, again.names) == (Added.HELD, names)
    done = subprocess.run(
        ["find", ".", "-path", "./.*", "-o", "-type", "f", "-name", "?" * 64, "-print"],
        cwd=store.root, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [f"./{names[0].hex[:2]}/{names[0].hex}"]


@pytest.mark.parametrize("by", [0, 1, 2])
def test_removing_by_any_name(store: LocalStore, staging: Staging, by: int) -> None:
    """The blob is gone under all its names; an upload brings all of them back."""
    names = names_of(DATA)
    for _ in range(2):
        put(staging, DATA)
        assert store.remove(names[by]).names[0] == names[0]
        for name in names:
            with pytest.raises(BlobNotFound):
                store.stat(name)
        assert not list(store.iterate())
        assert not list(store.iterate(algorithm=MD5))
    swept = list(store.sweep_names(remove=True))
    assert set(swept) == {name.hex for at, name in enumerate(names) if at not in (0, by)}
    put(staging, DATA)
    assert all(content(store, name) == DATA for name in names)
    assert not list(store.sweep_names(remove=True))


def test_two_files_with_one_name(store: LocalStore, staging: Staging) -> None:
    """The second file is stored under its own primary name; the name stays with the first."""
    first, second = COLLIDING
    put(staging, first)
    receipt = put(staging, second)
    assert receipt.created
    assert receipt.ambiguous == (MD5,)
    assert receipt.names == (digest_of(SHA256, second), digest_of(SHA1, second))
    assert content(store, digest_of(MD5, second)) == first
    assert content(store, digest_of(SHA256, second)) == second
    # Without the first, the next upload takes the name.
    store.remove(digest_of(SHA256, first))
    assert put(staging, second).ambiguous == ()
    assert content(store, digest_of(MD5, first)) == second


def test_a_name_that_belongs_to_another_file(store: LocalStore, staging: Staging) -> None:
    """An upload that wants the name of another file is refused, and nothing is stored."""
    first, second = COLLIDING
    put(staging, first)
    before = sorted(Path(store.root).glob("??/*"))
    name = digest_of(MD5, second)
    with pytest.raises(DigestCollision):
        staging.receive([second], expected=[name], under=name)
    assert sorted(Path(store.root).glob("??/*")) == before
    assert staging.receive([first], expected=[name], under=name).added is Added.HELD


@pytest.mark.parametrize(
    "text", ["/etc/passwd", "../../etc/passwd", "../ab/cd", "ab", "../ab/../ab/" + "ab" * 32, ""]
)
def test_other_links_are_no_blobs(store: LocalStore, staging: Staging, text: str) -> None:
    """A link of any other form is not followed, not even to a file in the store."""
    primary = put(staging, b"another").digest
    path = path_of(store, digest_of(MD5, DATA))
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(text or str(path_of(store, primary)))
    for ask in (store.stat, store.open, store.remove):
        with pytest.raises(BlobNotFound):
            ask(digest_of(MD5, DATA))
    with pytest.raises(StoreUnavailable, match="not a regular file"):
        put(staging, DATA)
    assert path.is_symlink()
    assert not list(store.sweep_names(remove=True))


@pytest.mark.parametrize("leading", [MD5, SHA1])
def test_a_link_to_a_name_that_is_not_primary(
    store: LocalStore, staging: Staging, leading: Algorithm
) -> None:
    """A further name leads nowhere if its link names a further one; the next upload corrects it."""
    put(staging, b"another")
    other = path_of(store, digest_of(leading, b"another"))
    path = path_of(store, digest_of(MD5, DATA))
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(f"../{other.parent.name}/{other.name}")
    for ask in (store.stat, store.open, store.remove):
        with pytest.raises(BlobNotFound):
            ask(digest_of(MD5, DATA))
    assert content(store, digest_of(leading, b"another")) == b"another"
    assert put(staging, DATA).created
    assert is_link(path, digest_of(SHA256, DATA))


def make_old(root: Path, *data: bytes) -> LocalStore:
    """A store with md5 that a migration to sha256 has begun."""
    staging = Staging(LocalStore(str(root), MD5))
    for one in data:
        put(staging, one)
    store = LocalStore(str(root), None)
    store.change_marker(lambda marker: Marker(SHA256, (MD5,), MD5, 1.0, 2.0))
    return store


def hashed(store: LocalStore, name: Digest) -> Hashed:
    """What a migration knows of a blob after reading it."""
    with closing(store.open(name)) as reader:
        data = reader.read()
        return Hashed(name, reader.stamp, {one: digest_of(one, data) for one in store.algorithms})


def test_a_migration(tmp_path: Path) -> None:
    """A blob keeps its old URL before, during and after it gets its primary name, and is stored once."""
    store = make_old(tmp_path, DATA, b"other")
    old, new = digest_of(MD5, DATA), digest_of(SHA256, DATA)
    assert store.algorithms == (SHA256, MD5)
    assert content(store, old) == DATA
    assert [blob.digest for blob in store.strays(MD5)] == sorted(
        [old, digest_of(MD5, b"other")], key=lambda one: one.raw
    )
    assert len(list(store.iterate())) == 2
    inode = path_of(store, old).stat().st_ino
    with pytest.raises(BlobNotFound):
        store.stat(new)
    assert store.adopt([hashed(store, old)]) == [Adopted.NAMED]
    assert is_link(path_of(store, old), new)
    assert path_of(store, new).stat().st_ino == inode
    assert content(store, old) == content(store, new) == DATA
    assert len(list(store.iterate())) == 2
    assert [blob.digest for blob in store.iterate(algorithm=SHA256)] == [new]
    assert store.adopt([Hashed(old, (), {SHA256: new})]) == [Adopted.HELD]


def test_an_upload_names_what_is_there(tmp_path: Path) -> None:
    """An upload of the bytes of a file under an old name finds it, and gives it its primary name."""
    store = make_old(tmp_path, DATA)
    inode = path_of(store, digest_of(MD5, DATA)).stat().st_ino
    receipt: Receipt = put(Staging(store), DATA)
    assert (receipt.added, receipt.ambiguous) == (Added.HELD, ())
    assert receipt.names == (digest_of(SHA256, DATA), digest_of(MD5, DATA))
    assert path_of(store, receipt.digest).stat().st_ino == inode
    assert is_link(path_of(store, digest_of(MD5, DATA)), receipt.digest)


@pytest.mark.parametrize("by", [MD5, SHA256])
def test_removing_what_a_killed_migration_left(tmp_path: Path, by: Algorithm) -> None:
    """A file that has both names is removed under both."""
    store = make_old(tmp_path, DATA)
    old, new = digest_of(MD5, DATA), digest_of(SHA256, DATA)
    path_of(store, new).parent.mkdir(exist_ok=True)
    os.link(path_of(store, old), path_of(store, new))
    store.remove(digest_of(by, DATA))
    for name in (old, new):
        with pytest.raises(BlobNotFound):
            store.stat(name)
        assert not path_of(store, name).exists()


def test_a_server_sees_a_migration(tmp_path: Path) -> None:
    """A store that was opened before names its uploads as the marker says now."""
    before = LocalStore(str(tmp_path), MD5)
    assert list(before.algorithms) == [MD5]
    receipt = put(Staging(before), b"first")
    make_old(tmp_path)
    with pytest.raises(BlobNotFound):
        before.stat(digest_of(SHA256, DATA))
    staging = Staging(LocalStore(str(tmp_path), None))
    assert put(staging, DATA).names == (digest_of(SHA256, DATA), digest_of(MD5, DATA))
    assert content(before, digest_of(SHA256, DATA)) == DATA
    assert content(before, receipt.digest) == b"first"
    assert list(before.algorithms) == [SHA256, MD5]


def test_an_upload_that_was_hashed_before_a_migration(tmp_path: Path) -> None:
    """A staged file that lacks a digest is read again."""
    store = LocalStore(str(tmp_path), MD5)

    def chunks() -> list[bytes]:
        make_old(tmp_path)
        return [DATA]

    def late() -> object:
        yield from chunks()

    receipt = Staging(store).receive(late())  # type: ignore[arg-type]
    assert receipt.names == (digest_of(SHA256, DATA), digest_of(MD5, DATA))
    assert content(store, receipt.digest) == DATA


def test_a_change_waits_for_writes(tmp_path: Path) -> None:
    """The marker changes only when no write is under way, and writes wait for a change."""
    store = LocalStore(str(tmp_path), MD5)
    lock = os.open(store.staging_directory, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    changed = threading.Event()

    def change() -> None:
        store.change_marker(lambda _: Marker(SHA256, (MD5,)))
        changed.set()

    thread = threading.Thread(target=change)
    thread.start()
    assert not changed.wait(0.1)
    os.close(lock)
    thread.join(10)
    assert changed.is_set()
    assert LocalStore(str(tmp_path), None).algorithms == (SHA256, MD5)
    assert not Path(tmp_path, markers.GATE).exists()


def test_a_write_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that has to wait too long is refused, and leaves nothing behind."""
    monkeypatch.setattr(markers, "PATIENCE", 0.05)
    store = LocalStore(str(tmp_path), MD5)
    lock = os.open(store.staging_directory, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        with pytest.raises(StoreUnavailable, match="still publishing"):
            store.change_marker(lambda _: Marker(SHA256, (MD5,)))
    finally:
        os.close(lock)
    assert put(Staging(store), DATA).names == (digest_of(MD5, DATA),)
    assert not Path(tmp_path, markers.GATE).exists()


def test_a_marker_as_version_0_1_0_wrote_it(tmp_path: Path) -> None:
    """A store without further names keeps that marker, byte for byte, also after a migration and back."""
    store = LocalStore(str(tmp_path), MD5)
    path = Path(tmp_path, "store.json")
    plain = b'{"algorithm": "md5", "layout": "ab/abcdef"}\n'
    assert path.read_bytes() == plain
    made = store.made()
    store.change_marker(lambda marker: Marker(MD5, (SHA256,), made=made))
    assert json.loads(path.read_bytes())["layout"] != "ab/abcdef"
    assert store.made() == made
    store.change_marker(lambda marker: Marker(MD5, made=marker.made))
    assert path.read_bytes() == plain
    assert store.made() == pytest.approx(made)


def test_names_that_differ(tmp_path: Path) -> None:
    """Opening a store with other names tells the command that changes them."""
    LocalStore(str(tmp_path), SHA256, names=[MD5])
    for names, command in (([], "--drop-names md5"), ([MD5, SHA1], "--add-names sha1")):
        with pytest.raises(WrongStore, match=f"wsgi-store migrate {command}"):
            LocalStore(str(tmp_path), None, names=names)
    assert LocalStore(str(tmp_path), None, names=[MD5]).algorithms == (SHA256, MD5)
    assert LocalStore(str(tmp_path), MD5).algorithms == (SHA256, MD5)
