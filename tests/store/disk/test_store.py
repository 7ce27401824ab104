"""Blobs on a local disk: their layout, and foreign files in their place."""

import gc
import hashlib
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.kinds import KINDS, LocalKind, absent, digest_of, neighbours, put
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.disk.store import LocalStore

DATA = b"some bytes"


def path_of(root: Path, data: bytes) -> Path:
    """The path of the blob with these bytes."""
    hash_ = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return root / hash_[:2] / hash_


def test_the_time_of_a_blob_is_that_of_its_upload(store: LocalStore, staging: Staging) -> None:
    """The time of a blob is the end of its upload, not the arrival of its last byte."""
    times = []

    def chunks() -> Iterator[bytes]:
        yield DATA
        time.sleep(0.1)
        times.append(time.time())
        time.sleep(0.1)

    digest = staging.receive(chunks()).digest
    assert store.stat(digest).modified > times[0]


def test_what_root_makes_belongs_to_the_owner_of_the_store(store: LocalStore, staging: Staging) -> None:
    """Files that root creates in a store belong to the store's owner, who can change them."""
    if os.geteuid():
        pytest.skip("needs root")
    os.chown(store.root, 65534, 65533)
    os.rmdir(store.staging_directory)
    again = LocalStore(store.root, None)
    digest = put(staging, DATA).digest
    path_of(Path(store.root), DATA).chmod(0o644)
    path_of(Path(store.root), DATA).write_bytes(b"other bytes")
    assert again.quarantine(digest)
    made = [store.staging_directory, f"{store.root}/{digest.hex[:2]}", f"{store.root}/.quarantine"]
    assert {(os.stat(path).st_uid, os.stat(path).st_gid) for path in made} == {(65534, 65533)}


def test_a_store_that_was_copied_back(store: LocalStore, staging: Staging) -> None:
    """A store copied without its staging directory accepts uploads; a store that is gone accepts none."""
    os.rmdir(store.staging_directory)
    assert put(staging, DATA).created
    os.rename(store.root, f"{store.root}-away")
    with pytest.raises(StoreUnavailable, match="is missing"):
        staging.check()
    assert not os.path.exists(store.root)
    os.rename(f"{store.root}-away", store.root)


@pytest.mark.parametrize("algorithm", Algorithm, ids=lambda one: one.value)
def test_layout(root: Path, algorithm: Algorithm) -> None:
    """A blob is a plain file named by its hash, in a directory named by two digits of it."""
    store = LocalStore(str(root), algorithm)
    digest = put(Staging(store), DATA).digest
    hash_ = digest_of(algorithm, DATA).hex
    assert digest.hex == hash_
    assert store.local_path(digest) == f"{hash_[:2]}/{hash_}"
    assert (root / hash_[:2] / hash_).read_bytes() == DATA
    assert sorted(os.listdir(root)) == sorted([".staging", hash_[:2], "store.json"])
    assert os.listdir(root / hash_[:2]) == [hash_]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_mode(root: Path, kind: LocalKind, umask: int) -> None:
    """Blobs are readable by all and writable by nobody, whatever the umask."""
    before = os.umask(umask)
    try:
        store = kind.open(root, Algorithm.MD5)
        put(kind.staging(store), DATA)
    finally:
        os.umask(before)
    status = path_of(root, DATA).stat()
    assert stat.S_IMODE(status.st_mode) == 0o444
    assert status.st_nlink == 1


def test_a_relative_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store opened by a relative path stays there when the working directory changes."""
    monkeypatch.chdir(root.parent)
    store = LocalStore("store", Algorithm.MD5)
    monkeypatch.chdir("/")
    put(Staging(store), DATA)
    assert path_of(root, DATA).exists()


def test_the_descriptor_stands_where_the_part_begins(store: LocalStore, staging: Staging) -> None:
    """The descriptor starts at the requested part, for servers that use sendfile(2)."""
    with closing(store.open(put(staging, DATA).digest, 5, 3)) as reader:
        assert os.lseek(reader.fileno(), 0, os.SEEK_CUR) == reader.start == 5
        assert os.read(reader.fileno(), 3) == DATA[5:8]


def test_a_reader_that_seeks_back_reads_the_same_again(store: LocalStore, staging: Staging) -> None:
    """A server that reads ahead and seeks back, as waitress does, gets every byte."""
    with closing(store.open(put(staging, DATA).digest)) as reader:
        for _ in range(3):
            assert reader.read(8) == DATA[:8]
            reader.seek(0)
        assert reader.read() == DATA


def test_a_reader_tells_where_it_is(store: LocalStore, staging: Staging) -> None:
    """A server that seeks to the end for the size, as waitress does, can read on from where it was."""
    with closing(store.open(put(staging, DATA).digest, 2)) as reader:
        assert reader.read(3) == DATA[2:5]
        assert reader.tell() == 5
        assert reader.seek(0, os.SEEK_END) == reader.tell() == len(DATA)
        assert reader.seek(-4, os.SEEK_CUR) == 6
        assert reader.read() == DATA[6:]


@pytest.mark.filterwarnings("always")
def test_a_reader_that_is_forgotten(store: LocalStore, staging: Staging) -> None:
    """A reader that is never closed issues a warning and releases its descriptor."""
    reader = store.open(put(staging, DATA).digest)
    fd = reader.fileno()
    with pytest.warns(ResourceWarning, match="unclosed reader"):
        del reader
        gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_file_cut_while_it_is_read(root: Path, store: LocalStore, staging: Staging) -> None:
    """A file truncated while it is read raises an error instead of ending early, also with sendfile."""
    reader = store.open(put(staging, DATA).digest)
    path_of(root, DATA).chmod(0o644)
    os.truncate(path_of(root, DATA), 4)
    assert reader.read(8) == DATA[:4]
    with pytest.raises(StoreUnavailable, match="shorter than it was"):
        reader.read(8)
    with pytest.raises(StoreUnavailable, match="shorter than it was"):
        reader.close()
    assert reader.closed
    reader.close()


def test_a_blob_removed_since_its_directory_was_read(store: LocalStore, staging: Staging) -> None:
    """A listing omits a blob that was removed before the listing came to it."""
    digests = [put(staging, data).digest for data in neighbours(Algorithm.MD5, 3)]
    blobs = store.iterate()
    assert next(blobs).digest == digests[0]
    store.remove(digests[1])
    assert [blob.digest for blob in blobs] == [digests[2]]


def test_a_copy_in_another_shard(root: Path, store: LocalStore, staging: Staging) -> None:
    """A blob copied into a wrong directory is listed once."""
    blob = store.stat(put(staging, DATA).digest)
    for shard in ("00", "ff"):
        (root / shard).mkdir()
        shutil.copy(path_of(root, DATA), root / shard)
    assert list(store.iterate()) == [blob]


def make_socket(path: Path) -> None:
    """A socket without a listener."""
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(path))  # a socket's name has at most 107 bytes


def make_link(path: Path) -> None:
    """A link to a file elsewhere, of the same size as the link itself."""
    target = path.parent.parent / ("elsewhere" + "x" * 20)
    path.symlink_to(target)
    target.write_bytes(bytes(path.lstat().st_size))


def make_dangling_link(path: Path) -> None:
    """A link that leads nowhere."""
    path.symlink_to("nowhere")


def make_device(path: Path) -> None:
    """A device that can be read without end."""
    if os.geteuid():
        pytest.skip("needs root")
    os.mknod(path, stat.S_IFCHR | 0o666, os.stat("/dev/zero").st_rdev)


THINGS = [os.mkdir, os.mkfifo, make_socket, make_device, make_link, make_dangling_link]


@pytest.mark.parametrize("make", THINGS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.SHA256], ids=lambda one: one.value)
def test_a_thing_in_the_place_of_a_blob(
    root: Path, monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm, make: Callable[[Path], None]
) -> None:
    """A foreign object in the place of a blob is not found, and an upload there fails."""
    store = LocalStore(str(root), algorithm)
    monkeypatch.chdir(root)
    # The data has the size that the file system reports for the object.
    (root / "sample").mkdir()
    sample = root / "sample" / "sample"
    make(sample)
    data = bytes(sample.lstat().st_size)
    digest = digest_of(algorithm, data)
    path = root / digest.hex[:2] / digest.hex
    path.parent.mkdir()
    make(path)
    before = path.lstat()
    asks: list[Callable[[Digest], object]] = [store.stat, store.open, store.remove]
    for ask in asks:
        with pytest.raises(BlobNotFound):
            ask(digest)
    for act in (lambda: put(Staging(store), data), lambda: store.quarantine(digest)):
        with pytest.raises(StoreUnavailable, match="not a regular file") as caught:
            act()
        assert caught.value.evidence == {"hash": digest.hex}
    assert not list(store.iterate())
    assert not os.listdir(store.staging_directory)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_in_the_place_of_a_shard(
    root: Path, store: LocalStore, staging: Staging, *, absolute: bool
) -> None:
    """A link in the place of a shard is not followed."""
    digest = put(staging, DATA).digest
    shard = path_of(root, DATA).parent
    elsewhere = shard.rename(root / "elsewhere")
    shard.symlink_to(elsewhere if absolute else "elsewhere")
    absent(store, digest)
    assert not list(store.iterate())
    with pytest.raises(StoreUnavailable):
        put(staging, DATA)
    assert (elsewhere / digest.hex).read_bytes() == DATA


def test_a_directory_in_the_place_of_a_blob_stays(root: Path, store: LocalStore) -> None:
    """Removing a blob never removes a directory."""
    path_of(root, DATA).mkdir(parents=True)
    with pytest.raises(BlobNotFound):
        store.remove(digest_of(Algorithm.MD5, DATA))
    assert path_of(root, DATA).is_dir()


def test_a_file_in_the_place_of_a_shard(root: Path, store: LocalStore, staging: Staging) -> None:
    """A file in the place of a shard holds no blobs, and none can be added there."""
    path_of(root, DATA).parent.write_bytes(b"")
    digest = digest_of(Algorithm.MD5, DATA)
    for ask in (store.stat, store.open, store.remove):
        with pytest.raises(BlobNotFound):
            ask(digest)
    with pytest.raises(StoreUnavailable):
        put(staging, DATA)


def unmount(root: Path) -> None:
    """Leave what is visible of a store while its disk is not mounted."""
    root.rename(root.with_name("elsewhere"))
    root.mkdir()


@pytest.mark.parametrize("vanish", [shutil.rmtree, unmount], ids=["removed", "unmounted"])
def test_a_root_that_vanishes(
    root: Path, store: LocalStore, staging: Staging, vanish: Callable[[Path], None]
) -> None:
    """A store whose directory is missing is unavailable; it does not report its blobs as lost."""
    digest = put(staging, DATA).digest
    vanish(root)
    asks: list[Callable[[], object]] = [
        lambda: store.stat(digest),
        lambda: store.open(digest),
        lambda: store.remove(digest),
        lambda: list(store.iterate()),
        lambda: put(staging, DATA),
        lambda: put(staging, b"others"),
        staging.check,
    ]
    for ask in asks:
        with pytest.raises(StoreUnavailable):
            ask()


def test_a_root_that_vanishes_while_it_is_listed(root: Path, store: LocalStore, staging: Staging) -> None:
    """A listing fails when the disk disappears, instead of ending early."""
    for number in range(10):
        put(staging, str(number).encode())
    blobs = store.iterate()
    next(blobs)
    unmount(root)
    with pytest.raises(StoreUnavailable):
        list(blobs)


def test_a_root_that_vanishes_before_a_staged_file_is_published(
    root: Path, store: LocalStore, staging: Staging
) -> None:
    """An upload fails when the whole store is removed before it is published."""

    def chunks() -> Iterator[bytes]:
        yield DATA
        shutil.rmtree(root)

    with pytest.raises(StoreUnavailable):
        staging.receive(chunks())
    assert not os.path.exists(store.root)


def test_a_shard_removed_between_uploads(root: Path, staging: Staging, store: LocalStore) -> None:
    """A shard removed when it was empty is created again by the next upload."""
    store.remove(put(staging, DATA).digest)
    path_of(root, DATA).parent.rmdir()
    assert put(staging, DATA).created
    assert path_of(root, DATA).read_bytes() == DATA
