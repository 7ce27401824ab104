"""Failing disks: each error becomes a StoreError, and nothing is left behind."""

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.kinds import LocalKind, content, digest_of, put
from tests.support.limits import limited, no_more_descriptors
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StorageFull, StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.disk.store import LocalStore

DATA = b"some bytes"
DIGEST = digest_of(Algorithm.MD5, DATA)


@pytest.fixture(name="store")
def fixture_store(kind: LocalKind, tmp_path: Path) -> Iterator[LocalStore]:
    """An empty store; whatever a test does, no staged file may be left."""
    store = kind.open(tmp_path / "store", Algorithm.MD5)
    assert isinstance(store, LocalStore)
    yield store
    assert not os.listdir(store.staging_directory)


@pytest.fixture(name="staging")
def fixture_staging(kind: LocalKind, store: LocalStore) -> Staging:
    """The staging of the store."""
    return kind.staging(store)


def test_no_descriptor_is_free(store: LocalStore, staging: Staging) -> None:
    """Calls that need a file descriptor fail while none is free, and work again afterwards."""
    put(staging, DATA)
    asks: list[Callable[[], object]] = [
        lambda: store.open(DIGEST),
        lambda: list(store.iterate()),
        lambda: put(staging, b"others"),
        lambda: LocalStore(store.root, Algorithm.MD5),
        staging.check,
    ]
    for ask in asks:
        with no_more_descriptors(), pytest.raises(StoreUnavailable, match="Too many open files"):
            ask()
    put(staging, b"others")
    assert content(store, DIGEST) == DATA


@pytest.mark.parametrize("data", [DATA, b"others"], ids=["duplicate", "new"])
def test_one_descriptor_is_free(store: LocalStore, staging: Staging, data: bytes) -> None:
    """A file that is staged but cannot be published is removed."""
    put(staging, DATA)
    with no_more_descriptors(1), pytest.raises(StoreUnavailable, match="Too many open files"):
        put(staging, data)
    assert [blob.digest for blob in store.iterate()] == [DIGEST]


def test_a_file_larger_than_allowed(store: LocalStore, staging: Staging) -> None:
    """A file larger than this process may write (RLIMIT_FSIZE) fails as StorageFull."""
    data = bytes(20_000)
    with limited(resource.RLIMIT_FSIZE, 10_000), pytest.raises(StorageFull, match="File too large"):
        put(staging, data)
    assert not list(store.iterate())
    assert put(staging, data).created


@pytest.fixture(name="mount")
def fixture_mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with the given options, once."""
    target = tmp_path / "mounted"
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    target.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(target)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"mounting is not allowed here: {result.stderr.strip()}")
        return target

    yield mount
    if os.path.ismount(target):
        subprocess.run(["umount", str(target)], check=True)


def test_a_full_disk(kind: LocalKind, mount: Callable[[str], Path]) -> None:
    """On a full disk uploads of known and unknown length fail; with free space they work again."""
    root = mount("size=800k")
    store = kind.open(root / "store", Algorithm.MD5)
    staging = kind.staging(store)
    with pytest.raises(StorageFull) as caught:
        staging.receive([], length=2 << 20)
    assert caught.value.evidence["needed"] == 2 << 20
    with pytest.raises(StorageFull, match="No space left on device"):
        staging.receive(bytes(64 << 10) for _ in range(32))
    assert not os.listdir(store.staging_directory)
    assert not list(store.iterate())
    filled = staging.receive([bytes(700 << 10)]).digest
    with pytest.raises(StorageFull):
        put(staging, bytes(200 << 10))
    assert store.stat(filled).size == 700 << 10
    store.remove(filled)
    assert put(staging, bytes(200 << 10)).created


def test_no_inode_is_free(kind: LocalKind, mount: Callable[[str], Path]) -> None:
    """A disk without free inodes counts as full, though it has free bytes."""
    root = mount("size=1m,nr_inodes=20")
    store = kind.open(root, Algorithm.MD5)
    staging = kind.staging(store)
    with pytest.raises(StorageFull, match="No space left on device"):
        for number in range(20):
            put(staging, str(number).encode())
    assert not os.listdir(store.staging_directory)
    for blob in store.iterate():
        assert digest_of(Algorithm.MD5, content(store, blob.digest)) == blob.digest


def test_a_disk_without_a_size(kind: LocalKind, mount: Callable[[str], Path]) -> None:
    """A file system that does not report its size is not taken for a full one."""
    staging = kind.staging(kind.open(mount("size=0"), Algorithm.MD5))
    staging.check()
    assert staging.receive([DATA], length=len(DATA)).created


def test_a_disk_that_turned_read_only(kind: LocalKind, mount: Callable[[str], Path]) -> None:
    """Blobs on a disk that became read-only can be read, also by a server started afterwards."""
    root = mount("size=1m")
    store = kind.open(root, Algorithm.MD5)
    staging = kind.staging(store)
    put(staging, DATA)
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    opened = kind.open(root, Algorithm.MD5)
    asks: list[Callable[[], object]] = [
        staging.check,
        lambda: put(staging, b"others"),
        lambda: store.remove(DIGEST),
        lambda: put(kind.staging(opened), b"others"),
        lambda: kind.open(root / "new", Algorithm.MD5),
    ]
    for ask in asks:
        with pytest.raises(StoreUnavailable, match="Read-only file system"):
            ask()
    assert content(opened, DIGEST) == DATA
    assert [blob.digest for blob in opened.iterate()] == [DIGEST]


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("function", "ask"),
    [
        ("open", lambda store, staging: store.open(DIGEST)),
        ("fstat", lambda store, staging: store.open(DIGEST)),
        ("lseek", lambda store, staging: store.open(DIGEST, 1)),
        ("stat", lambda store, staging: store.stat(DIGEST)),
        ("listdir", lambda store, staging: list(store.iterate())),
        ("unlink", lambda store, staging: store.remove(DIGEST)),
        ("fsync", lambda store, staging: store.remove(DIGEST)),
        ("open", lambda store, staging: put(staging, b"others")),
        ("write", lambda store, staging: put(staging, b"others")),
        ("fchmod", lambda store, staging: put(staging, b"others")),
        ("fsync", lambda store, staging: put(staging, b"others")),
        ("mkdir", lambda store, staging: put(staging, b"others")),
        ("link", lambda store, staging: put(staging, b"others")),
        ("fstat", lambda store, staging: put(staging, DATA)),
        ("pread", lambda store, staging: put(staging, DATA)),
        ("statvfs", lambda store, staging: put(staging, b"others")),
    ],
)
def test_a_call_that_fails(
    store: LocalStore,
    staging: Staging,
    function: str,
    ask: Callable[[LocalStore, Staging], object],
    code: int,
) -> None:
    """Any failing system call raises StorageFull or StoreUnavailable, without paths in the message."""
    put(staging, DATA)

    def fail(*arguments: object, **_: object) -> None:
        raise OSError(code, os.strerror(code), *arguments[:1])

    full = code in (errno.ENOSPC, errno.EDQUOT)
    # With a usual one, a file is made with its mode.
    umask = os.umask(0o077)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, function, fail)
            with pytest.raises(StorageFull if full else StoreUnavailable) as caught:
                ask(store, staging)
    finally:
        os.umask(umask)
    assert str(caught.value).endswith(f": {os.strerror(code)}")
    assert store.root not in str(caught.value)
    put(staging, DATA)
    assert content(store, DIGEST) == DATA


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("function", ["statvfs", "open", "write", "fsync"])
def test_a_check_that_fails(staging: Staging, function: str, code: int) -> None:
    """A store that cannot be written, for whatever reason, fails its check as unavailable."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(StoreUnavailable, match=os.strerror(code)):
            staging.check()
    staging.check()


def test_an_unreadable_block(store: LocalStore, staging: Staging) -> None:
    """A disk error while reading a blob raises StoreUnavailable."""
    put(staging, DATA)
    reader = store.open(DIGEST)
    os.close(reader.fileno())
    with pytest.raises(StoreUnavailable, match="cannot read the blob: Bad file descriptor"):
        reader.read()
    with pytest.raises(StoreUnavailable, match="cannot read the blob: Bad file descriptor"):
        reader.close()


def test_a_file_that_does_not_close(store: LocalStore, staging: Staging) -> None:
    """An error that a file system reports only on close, as NFS does, is not lost."""
    close = os.close

    def fail(fd: int) -> None:
        staged = ".staging/" in os.readlink(f"/proc/self/fd/{fd}")
        close(fd)
        if staged:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "close", fail)
        with pytest.raises(StorageFull, match="cannot close the file"):
            put(staging, DATA)
    assert store.stat(DIGEST).size == len(DATA)
