"""Verifying leaves the page cache as it was."""

import mmap
import os
import resource
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.kinds import content, put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.upkeep import pagecache


def test_what_is_cached_of_a_large_file(tmp_path: Path) -> None:
    """Asking about a large file in parts gives the same answer as asking at once."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(9 * pagecache.BLOCK_SIZE + 5))
    with open(path, "rb+", buffering=0) as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
        for block in (1, 5):
            os.pread(file.fileno(), 1, block * pagecache.BLOCK_SIZE)
        whole = pagecache.resident(file.fileno(), path.stat().st_size)
        assert pagecache.resident(file.fileno(), path.stat().st_size, 2 * pagecache.BLOCK_SIZE) == whole
    assert len(whole) == 10
    assert whole[1] and whole[5]


def test_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """For files in memory the cache is not queried, and the bytes are the same."""
    monkeypatch.delattr(pagecache, "resident")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        store = LocalStore(directory, Algorithm.MD5)
        for size in (0, 1, pagecache.BLOCK_SIZE, 3 * pagecache.BLOCK_SIZE + 5):
            data = os.urandom(size)
            with closing(store.open(put(Staging(store), data).digest)) as reader:
                assert b"".join(map(bytes, pagecache.Blocks().of(reader))) == data


@pytest.mark.parametrize(("size", "times"), [(100_000, 20), (3 * pagecache.BLOCK_SIZE + 5, 3)])
def test_the_page_cache(tmp_path: Path, size: int, times: int) -> None:
    """Uncached pages are dropped after reading, cached ones stay, and the bytes are the same."""
    store = LocalStore(str(tmp_path / "store"), Algorithm.MD5)
    dropped = 0
    for _ in range(times):
        data = os.urandom(size)
        digest = put(Staging(store), data).digest
        with closing(store.open(digest)) as reader:
            fd = reader.fileno()
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if any(pagecache.resident(fd, size)):
                pytest.skip("this file system keeps everything in memory")
            assert b"".join(map(bytes, pagecache.Blocks().of(reader))) == data
            dropped += not any(pagecache.resident(fd, size))
        assert content(store, digest) == data
        with closing(store.open(digest)) as reader:
            assert b"".join(map(bytes, pagecache.Blocks().of(reader))) == data
            assert all(pagecache.resident(reader.fileno(), size))
    # A small file may be read from disk before the cache can be queried.
    assert dropped == times or (size <= pagecache.BLOCK_SIZE and dropped > times / 2)


def test_a_file_that_cannot_be_mapped(tmp_path: Path) -> None:
    """All blocks of a file that cannot be mapped count as cached, so that none is dropped."""
    size = 4 << 30
    with open(tmp_path / "file", "wb+", buffering=0) as file:
        file.truncate(size)
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29), before[1]))
        try:
            cached = pagecache.resident(file.fileno(), size)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
        assert cached == b"\1" * (size // pagecache.BLOCK_SIZE)
        assert not any(pagecache.resident(file.fileno(), size))


@pytest.mark.parametrize("directory", ["/tmp", "/dev/shm"])
def test_a_file_that_is_cut_while_it_is_read(directory: str) -> None:
    """A blob that another program cuts is an error, not a shorter blob."""
    with tempfile.TemporaryDirectory(dir=directory) as root:
        store = LocalStore(root, Algorithm.MD5)
        digest = put(Staging(store), os.urandom(3 * pagecache.BLOCK_SIZE)).digest
        reader = store.open(digest)
        with pytest.raises(StoreUnavailable, match="shorter than it was when it was opened"):
            with closing(reader):
                blocks = pagecache.Blocks().of(reader)
                assert len(next(blocks)) == pagecache.BLOCK_SIZE
                os.truncate(os.path.join(root, str(store.local_path(digest))), pagecache.BLOCK_SIZE)
                with pytest.raises(StoreUnavailable, match="shorter") as caught:
                    next(blocks)
                assert caught.value.evidence == {"hash": digest.hex}
