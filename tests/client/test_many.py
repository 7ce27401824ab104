"""Uploads of many files at once, against the shipped gunicorn."""

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.servers import Server, until
from wsgi_store.client import Client, Uploaded, batch, many
from wsgi_store.client.many import Sent
from wsgi_store.errors import DigestMismatch

LARGE = Random(5).randbytes(many.SMALL + 1)


def hash_of(data: bytes) -> str:
    """The name of a blob."""
    return hashlib.sha256(data).hexdigest()


def uploaded(sent: "Sent[object]") -> Uploaded:
    """The upload, which succeeded."""
    assert isinstance(sent.outcome, Uploaded), repr(sent.outcome)
    return sent.outcome


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> dict[str, bytes]:
    """700 files of many sizes in a folder; two have equal bytes, and one is empty."""
    random = Random(3)
    files = {}
    for number in range(700):
        size = {0: 0, 1: 1, 100: many.SMALL, 200: many.SMALL + 1, 300: 2_000_000}.get(number, 2000 + number)
        files[str(tmp_path / f"{number:03}")] = random.randbytes(size)
    files[str(tmp_path / "005")] = files[str(tmp_path / "650")]
    for path, data in files.items():
        Path(path).write_bytes(data)
    return files


def test_a_folder(client: Client, server: Server, folder: dict[str, bytes]) -> None:
    """Small files take few requests, and what the server has is not sent; outcomes come in order."""
    for created in (True, False):
        before = len(server.logged("POST / ")), len(server.logged("PUT /"))
        sent = list(client.put_many(folder))
        assert [one.source for one in sent] == list(folder)
        for one, data in zip(sent, folder.values(), strict=True):
            blob = uploaded(one)
            assert (blob.hash, blob.size, blob.names) == (hash_of(data), len(data), {"sha256": hash_of(data)})
            assert blob.url == client.url(blob.hash)
            assert one.status is not None and one.status.st_size == len(data) and not one.changed
        news = [uploaded(one).created for one in sent]
        assert news.count(False) == (1 if created else len(folder))
        after = len(server.logged("POST / ")), len(server.logged("PUT /"))
        assert (after[0] - before[0] <= 5, after[1] - before[1]) == (True, 2 if created else 0)
    assert server.blobs() == {hash_of(data) for data in folder.values()}


def test_few_questions(client: Client, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The more files have come, the more the server is asked about at once; only what it lacks is sent."""
    monkeypatch.setattr(many, "FILES", 512)
    files = [str(number).encode() for number in range(1500)]
    for change in (range(0), range(0, len(files), 200)):
        for number in change:
            files[number] += b" changed"
        before = len(server.logged("POST /missing")), len(server.logged("POST / "))
        news = [uploaded(one).created for one in client.put_many(files)]
        assert [number for number, new in enumerate(news) if new] == list(change or range(len(files)))
        asked = len(server.logged("POST /missing")) - before[0]
        sent = len(server.logged("POST / ")) - before[1]
        assert asked == 4  # about 256, 512, 512 and the rest
        assert sent <= (4 if change else 7)


def test_force_and_dry_run(client: Client, server: Server, folder: dict[str, bytes]) -> None:
    """`dry_run` sends nothing and tells what would be sent; with `force` everything is sent."""
    assert all(uploaded(one).created for one in client.put_many(folder, dry_run=True))
    assert not server.blobs()
    some = list(folder)[90:310]
    assert all(uploaded(one).created for one in client.put_many(some))
    dry = {one.source: uploaded(one) for one in client.put_many(folder, dry_run=True)}
    assert {path for path, blob in dry.items() if not blob.created} == set(some)
    assert all(blob.hash == hash_of(folder[path]) for path, blob in dry.items())
    before = len(server.logged("POST / "))
    assert not any(uploaded(one).created for one in client.put_many(some, force=True))
    assert len(server.logged("POST / ")) > before
    forced = client.put_many(some, force=True, dry_run=True)
    assert all(uploaded(one).created for one in forced)


def test_sources(client: Client, tmp_path: Path) -> None:
    """A source is whatever `put` takes; small and large ones may be mixed."""
    for name, data in (("small", b"path"), ("large", LARGE)):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "kernel").symlink_to("/proc/version")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"pipe",))
    writer.start()
    with (tmp_path / "large").open("rb") as large, (tmp_path / "small").open("rb") as small:
        small.seek(1)
        sources: list[tuple[object, bytes]] = [
            (tmp_path / "small", b"path"),
            (str(tmp_path / "large"), LARGE),
            (b"bytes", b"bytes"),
            (bytearray(b"array"), b"array"),
            (memoryview(b"every other")[::2], b"every other"[::2]),
            (LARGE * 2, LARGE * 2),
            (large, LARGE),
            (small, b"ath"),
            (io.BytesIO(b"open"), b"open"),
            (iter([b"one", b"", b"two"]), b"onetwo"),
            (tmp_path / "pipe", b"pipe"),
            (tmp_path / "kernel", Path("/proc/version").read_bytes()),
            (b"", b""),
        ]
        sent = list(client.put_many(source for source, _ in sources))
        assert [uploaded(one).hash for one in sent] == [hash_of(data) for _, data in sources]
        assert [client.get_bytes(uploaded(one).hash) for one in sent] == [data for _, data in sources]
        assert [one.status is not None for one in sent] == [
            isinstance(one, (str, os.PathLike)) for one, _ in sources
        ]
    writer.join()
    (failed,) = client.put_many([5])
    assert isinstance(failed.outcome, TypeError)


class Found(os.PathLike[str]):
    """A file in an open directory."""

    def __init__(self, directory: int, name: str) -> None:
        self.directory = directory
        self.name = name

    def __fspath__(self) -> str:
        return self.name


def test_a_walk_by_descriptors(client: Client, tmp_path: Path) -> None:
    """Each source is opened before the next one is taken, so a walk may close what it has left."""
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "small").write_text(str(number))
        (tmp_path / f"{number}" / "large").write_bytes(LARGE + bytes([number]))

    def found() -> Iterator[Found]:
        for number in range(30):
            directory = os.open(tmp_path / str(number), os.O_PATH)
            yield Found(directory, "small")
            yield Found(directory, "large")
            os.close(directory)

    def opener(source: Found) -> int:
        return os.open(source.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source.directory)

    before = len(os.listdir("/proc/self/fd"))
    hashes = [uploaded(one).hash for one in client.put_many(found(), opener=opener)]
    assert hashes[::2] == [hash_of(str(number).encode()) for number in range(30)]
    assert hashes[1::2] == [hash_of(LARGE + bytes([number])) for number in range(30)]
    assert len(os.listdir("/proc/self/fd")) <= before + 10  # idle connections


def test_what_cannot_be_read(client: Client, tmp_path: Path) -> None:
    """A file that cannot be read is an outcome of its own, and the others are uploaded."""
    names = ["a", "gone", "directory", "loop", "memory", "large", "socket/below", "z"]
    for name in ("a", "z", "large", "socket"):
        (tmp_path / name).write_bytes(LARGE if name == "large" else name.encode())
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "memory").symlink_to("/proc/self/mem")  # can be opened, and read nowhere
    sent = client.put_many(tmp_path / name for name in names)
    outcomes = {str(one.source.relative_to(tmp_path)): one.outcome for one in sent}
    assert list(outcomes) == names
    failures = {name: type(one) for name, one in outcomes.items() if not isinstance(one, Uploaded)}
    assert failures == {
        "gone": FileNotFoundError,
        "directory": IsADirectoryError,
        "loop": OSError,
        "memory": OSError,
        "socket/below": NotADirectoryError,
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, 3),
        lambda path: path.write_bytes(b"first and more"),
        lambda path: path.write_bytes(LARGE * 2),
        lambda path: os.utime(path, (1, 1)),
        os.unlink,
    ],
    ids=["shrinks", "grows", "grows large", "touched", "vanishes"],
)
def test_a_file_that_changes_while_it_is_read(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    """The bytes that were read are uploaded, and `changed` tells that they may be a mixture."""
    path = tmp_path / "file"
    path.write_bytes(b"first")
    fstat = os.fstat

    def changed(fd: int) -> os.stat_result:
        status = fstat(fd)
        monkeypatch.setattr(os, "fstat", fstat)
        change(path)
        return status

    monkeypatch.setattr(os, "fstat", changed)
    (one,) = client.put_many([path])
    assert one.changed and one.status is not None and one.status.st_size == 5
    data = path.read_bytes() if path.exists() else b"first"
    assert client.get_bytes(uploaded(one).hash) == data
    assert uploaded(one).size == len(data)
    if path.exists():
        (one,) = client.put_many([path])
        assert not one.changed


@pytest.mark.parametrize("size", [len(LARGE), 20 << 20])
def test_a_large_file_that_changes(client: Client, tmp_path: Path, size: int) -> None:
    """If a large file changes after it was hashed, it is not stored, and the outcome says why."""
    path = tmp_path / "file"
    path.write_bytes(Random(1).randbytes(size))

    def hashed(done: int) -> None:
        if done == size:
            with path.open("r+b") as file:
                file.seek(size // 2)
                file.write(b"?")

    outcomes = [one.outcome for one in client.put_many([b"before", path, b"after"], hashing=hashed)]
    assert [isinstance(one, Uploaded) for one in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], DigestMismatch)
    assert str(outcomes[1]) == "the file changed while it was sent"
    assert {blob.hash for blob in client.list()} == {hash_of(b"before"), hash_of(b"after")}


def test_progress(client: Client, folder: dict[str, bytes]) -> None:
    """Both count up to the bytes there are, whether these are sent or found."""
    large = sum(len(data) for data in folder.values() if len(data) > many.SMALL)
    for _ in range(2):
        hashed: list[int] = []
        done: list[int] = []
        assert len(list(client.put_many(folder, hashing=hashed.append, progress=done.append))) == len(folder)
        assert hashed == sorted(hashed) and hashed[-1] == large
        assert done == sorted(done) and done[-1] == sum(map(len, folder.values()))


def test_what_the_sources_raise(client: Client, tmp_path: Path) -> None:
    """It ends the uploads, and is raised as it is; nothing stays open."""
    (tmp_path / "large").write_bytes(LARGE)

    def sources() -> Iterator[object]:
        for number in range(300):
            yield str(number).encode()
        for _ in range(5):
            yield tmp_path / "large"
        raise ZeroDivisionError

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError):
        list(client.put_many(sources()))
    until(
        lambda: not any(thread.name.startswith("ThreadPool") for thread in threading.enumerate()),
        "the uploads under way",
    )
    assert len(os.listdir("/proc/self/fd")) <= before + 10


def test_leaving_the_loop(client: Client) -> None:
    """Sources that were not taken yet are never taken."""
    taken = []

    def sources() -> Iterator[bytes]:
        for number in range(100_000):
            taken.append(number)
            yield str(number).encode()

    for one in client.put_many(sources()):
        assert uploaded(one).created
        break
    until(
        lambda: not any(thread.name.startswith("ThreadPool") for thread in threading.enumerate()),
        "the uploads under way",
    )
    assert len(taken) < 50_000


def test_groups(client: Client) -> None:
    """Known outcomes are given at once, in lists, while a later file is still to come."""
    more = threading.Event()

    def later() -> Iterator[bytes]:
        yield b"later"
        assert more.wait(20)

    groups = client.put_many(
        [*(str(number).encode() for number in range(many.FIRST_FILES)), later()]
    ).groups()
    assert len(next(groups)) == many.FIRST_FILES
    more.set()
    assert [len(group) for group in groups] == [1]


@pytest.mark.races
@given(
    numbers=st.lists(st.integers(0, 12), max_size=60),
    jobs=st.integers(1, 5),
    files=st.integers(1, 9),
    size=st.integers(1, 400),
    small=st.integers(0, 300),
    backlog=st.integers(1, 20),
)
def test_any_files(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    server: Server, numbers: list[int], jobs: int, files: int, size: int, small: int, backlog: int
) -> None:
    """Whatever is collected and sent apart: all arrive, in order, and each content is created once."""
    contents = [bytes([number]) * 37 * number for number in numbers]
    with Client(f"http://127.0.0.1:{server.port}") as client, pytest.MonkeyPatch.context() as patch:
        there = {blob.hash for blob in client.list()}
        values = {
            "FIRST_FILES": files,
            "FILES": 3 * files,
            "BYTES": 2 * size,
            "SMALL": small,
            "BACKLOG": backlog,
        }
        for name, value in values.items():
            patch.setattr(many, name, value)
        patch.setattr(batch, "FILES", files)
        patch.setattr(batch, "BYTES", size)
        blobs = [uploaded(one) for one in client.put_many(contents, jobs=jobs)]
        assert [blob.hash for blob in blobs] == [hash_of(data) for data in contents]
        created = [blob.hash for blob in blobs if blob.created]
        assert len(created) == len(set(created))
        assert set(created) == {blob.hash for blob in blobs} - there
        for hash_ in created[::2]:
            client.delete(hash_)
