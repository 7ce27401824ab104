"""`POST /archive` sends many blobs as one tar archive."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.calling import quick, request, start
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.web import tar
from wsgi_store.web.application import Application
from wsgi_store.web.archive import PIECE
from wsgi_store.web.response_body import SEND_SIZE

END = bytes(1024)
LARGE = os.urandom(SEND_SIZE) * 3 + b"more"
ABSENT = hashlib.sha256(b"never added").hexdigest()


@pytest.fixture
def config(config: Config) -> Config:
    """Settings for a store by sha256."""
    return replace(config, hash=Algorithm.SHA256)


def name(data: bytes) -> str:
    """The hash of a blob."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def sent(application: Application, asked: list[Any], **extra: Any) -> Iterator[Iterator[bytes]]:
    """The pieces of an archive while it is sent."""
    body = json.dumps(asked).encode()
    environ = request("POST", "/archive", body=body, CONTENT_TYPE="application/json", **extra)
    status, headers, result = start(application, environ)
    try:
        assert status == 200
        assert headers["Content-Type"] == "application/x-tar"
        assert headers["Cache-Control"] == "no-store"
        assert "Content-Length" not in headers
        yield iter(result)
    finally:
        result.close()


def archive(application: Application, asked: list[Any]) -> bytes:
    """A whole archive."""
    with sent(application, asked) as pieces:
        return b"".join(pieces)


def members(data: bytes) -> dict[str, bytes]:
    """The files in an archive, in their order."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        for member in opened:
            assert member.isreg() and member.name not in found
            assert (member.mode, member.mtime, member.uid, member.gid) == (0o444, 0, 0, 0)
            file = opened.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    return found


@pytest.mark.every_store
def test_an_archive(application: Application) -> None:
    """It has the blobs in the order of the list, each once, named by the hash in lower case."""
    contents = [b"hello", b"", LARGE, b"x" * 512, b"y" * 513]
    hashes = [application.receive(data).digest.hex for data in contents]
    asked = [hashes[2].upper(), ABSENT, *reversed(hashes)]
    data = archive(application, asked)
    assert list(members(data).items()) == [
        (name(one), one) for one in (LARGE, b"y" * 513, b"x" * 512, b"", b"hello")
    ]
    assert data.endswith(END) and len(data) % 512 == 0
    assert archive(application, asked) == data


@pytest.mark.every_store
def test_nothing_to_send(application: Application) -> None:
    """An archive without a file is its end."""
    assert archive(application, []) == archive(application, [ABSENT]) == END


@pytest.mark.every_store
def test_sizes(application: Application) -> None:
    """A blob of another size than the one in the list is left out."""
    application.receive(b"hello")
    for sizes, expected in (([5], 1), ([4], 0), ([4, 5], 0), ([None, 5], 1)):
        asked = [{"hash": name(b"hello"), "size": size} for size in sizes]
        assert len(members(archive(application, asked))) == expected


@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.SHA512, Algorithm.BLAKE2B])
def test_names_of_any_length(config: Config, algorithm: Algorithm) -> None:
    """A hash of 128 digits is a name, too, and so is a further one."""
    application = create_app(replace(config, hash=algorithm, names=(Algorithm.SHA256,)))
    receipt = application.receive(b"hello")
    asked = [one.hex for one in receipt.names]
    assert len(asked) == 2
    assert members(archive(application, asked)) == {one: b"hello" for one in asked}


@pytest.mark.every_store
def test_small_blobs_are_sent_together(application: Application) -> None:
    """Each piece but the last one has 256 KiB or more, and none is much larger than one read."""
    hashes = [application.receive(b"%d" % number * 1000).digest.hex for number in range(300)]
    hashes.insert(100, application.receive(LARGE).digest.hex)
    with sent(application, hashes) as pieces:
        *lengths, _ = [len(piece) for piece in pieces]
    assert len(lengths) > 3
    assert min(lengths) >= PIECE
    assert max(lengths) <= PIECE + SEND_SIZE + 1024


def test_a_read_only_store(application: Application, config: Config) -> None:
    """A store that is only read sends archives, too."""
    hash_ = application.receive(b"hello").digest.hex
    reader = create_app(replace(config, read_only=True))
    assert members(archive(reader, [hash_, ABSENT])) == {hash_: b"hello"}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_odd_things_in_place_of_a_blob(application: Application, root: Path, make: Any) -> None:
    """What is no regular file of the store is left out."""
    first, odd = (application.receive(data).digest.hex for data in (b"hello", b"odd"))
    (root / odd[:2] / odd).unlink()
    make(root / odd[:2] / odd)
    assert members(archive(application, [odd, first])) == {first: b"hello"}


def test_blobs_that_are_removed_meanwhile(application: Application) -> None:
    """One that is removed before its turn is left out; one that is being sent arrives whole."""
    first, second = (application.receive(data).digest for data in (LARGE, b"hello"))
    with sent(application, [first.hex, second.hex]) as pieces:
        data = next(pieces)
        for digest in (first, second):
            application.store.remove(digest)
        data += b"".join(pieces)
    assert members(data) == {first.hex: LARGE}
    assert data.endswith(END)


def test_a_blob_that_is_cut_meanwhile(application: Application, root: Path) -> None:
    """The archive breaks off without its end."""
    first, second = (application.receive(data).digest.hex for data in (b"hello", LARGE))
    with sent(application, [first, second]) as pieces:
        data = [next(pieces)]
        os.truncate(root / second[:2] / second, SEND_SIZE)
        with pytest.raises(StoreUnavailable, match="shorter"):
            data += pieces
    assert END not in b"".join(data)


@pytest.mark.every_store
def test_a_client_that_leaves(application: Application) -> None:
    """Closing the response in the middle of a blob closes the blob."""
    digest = application.receive(LARGE).digest
    with sent(application, [digest.hex]) as pieces:
        next(pieces)
    with sent(application, [digest.hex]):
        pass


@pytest.mark.parametrize("size", [tar.MAX_SIZE, tar.MAX_SIZE + 1, 1 << 40])
def test_sizes_beyond_the_field(application: Application, root: Path, size: int) -> None:
    """A size that the field of the header cannot hold stands in an extended header."""
    digest = application.receive(b"hello").digest.hex
    with open(root / digest[:2] / digest, "r+b") as file:
        try:
            file.truncate(size)
        except OSError:
            pytest.skip("the file system has no files of this size")
    with sent(application, [digest]) as pieces:
        head = next(pieces)
    with tarfile.open(fileobj=io.BytesIO(head)) as opened:
        member = opened.next()
    assert member is not None
    assert (member.name, member.size) == (digest, size)


@given(st.from_regex("[0-9a-f]{1,128}", fullmatch=True), st.integers(0, 1 << 60))
def test_any_header(path: str, size: int) -> None:
    """Python reads each header as it was meant."""
    head = tar.header(path, size)
    assert len(head) == (512 if len(path) <= 100 and size <= tar.MAX_SIZE else 3 * 512)
    with tarfile.open(fileobj=io.BytesIO(head)) as opened:
        (member,) = [opened.next()]
        assert member is not None
        assert (member.name, member.size, member.mode) == (path, size, 0o444)


@given(st.lists(st.binary(max_size=2000)), st.randoms())
def test_any_archive(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], order: Any) -> None:
    """Any blobs come back in any order."""
    root = tmp_path_factory.getbasetemp() / "any"
    application = quick(Config(root=str(root), min_free=0, hash=Algorithm.SHA256))
    for data in contents:
        application.receive(data)
    order.shuffle(contents)
    found = members(archive(application, [name(data) for data in contents]))
    assert list(found.items()) == [(name(data), data) for data in dict.fromkeys(contents)]
