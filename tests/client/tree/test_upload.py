"""Folders that are uploaded, with the tree that describes each."""

import hashlib
import os
import random
import shutil
import subprocess
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn
from tests.support.trees import NAMES
from wsgi_store.client import Client, Entry, Kind, many
from wsgi_store.client.tree.entry import to_text
from wsgi_store.digest import Algorithm
from wsgi_store.errors import DigestMismatch, TooLarge, UnexpectedAnswer
from wsgi_store.filesystem import Directory

# Larger than what the client collects in memory.
LARGE = 300 << 10


def sha256(data: bytes) -> str:
    """The hash of a blob."""
    return hashlib.sha256(data).hexdigest()


def odd_folder(top: Path) -> None:
    """Make a folder with names of any kind, links, modes and times."""
    (top / "a b" / "empty").mkdir(parents=True)
    (top / "a b" / "#1 = * ?[x]\\").write_bytes(b"odd")
    (top / "line\nbreak\t").write_bytes(b"line")
    Path(os.fsdecode(os.path.join(os.fsencode(top), b"\xff\xfe not UTF-8"))).write_bytes(b"bytes")
    (top / "ä").symlink_to("a b/#1 = * ?[x]\\")
    (top / "nowhere").symlink_to("../x y")
    (top / "large").write_bytes(bytes(LARGE))
    (top / "empty").touch()
    (top / "large").chmod(0o640)
    (top / "a b").chmod(0o750)
    top.chmod(0o755)
    os.utime(top / "large", ns=(0, 1_234_567_890_123_456_789))
    os.utime(top / "empty", ns=(0, -1_500_000_000))


def test_a_folder(client: Client, tmp_path: Path) -> None:
    """The tree says what is in the folder, and each file can be downloaded."""
    odd_folder(tmp_path)
    told = client.put_tree(tmp_path)
    assert (told.files, told.sent, told.created) == (5, 5, True)
    entries = {entry.path: entry for entry in client.tree(told.hash)}
    assert sorted(entries) == sorted(
        [".", "a b", "a b/#1 = * ?[x]\\", "a b/empty", "empty", "large", "line\nbreak\t", "nowhere", "ä"]
        + ["\udcff\udcfe not UTF-8"]
    )
    assert entries["a b"] == Entry("a b", Kind.DIRECTORY, 0o750)
    assert entries["ä"] == Entry("ä", Kind.LINK, 0o777, target="a b/#1 = * ?[x]\\")
    digest = Algorithm.SHA256.parse(sha256(bytes(LARGE)))
    assert entries["large"] == Entry("large", Kind.FILE, 0o640, LARGE, 1_234_567_890_123_456_789, digest)
    assert entries["empty"].modified == -1_500_000_000
    for entry in entries.values():
        if entry.hash is not None:
            assert client.get_bytes(entry.hash.hex) == (tmp_path / entry.path).read_bytes()
    assert sha256(client.get_bytes(told.hash)) == told.hash
    assert not list(client.diff(told.hash, told.hash))


@given(names=st.sets(NAMES, min_size=1, max_size=6), seed=st.randoms())
def test_equal_folders_have_equal_trees(
    client: Client, tmp_path_factory: pytest.TempPathFactory, names: set[bytes], seed: random.Random
) -> None:
    """Whatever the order of creation, the tree is the same, and the next one sends no file."""
    hashes = []
    for _ in range(2):
        top = os.fsencode(tmp_path_factory.mktemp("folder"))
        order = sorted(names)
        seed.shuffle(order)
        for name in order:
            directory = os.path.join(top, name)
            os.mkdir(directory, 0o755)
            for below in reversed(order):
                with open(os.path.join(directory, below), "wb") as file:
                    file.write(below)
                os.utime(os.path.join(directory, below), (0, 0))
        told = client.put_tree(os.fsdecode(top))
        hashes.append(told.hash)
    assert hashes[0] == hashes[1]
    assert (told.files, told.sent, told.created) == (len(names) ** 2, 0, False)
    paths = [entry.path for entry in client.tree(told.hash) if entry.kind is Kind.DIRECTORY]
    assert paths == [".", *map(to_text, sorted(names))]


def test_ten_changed_files(server: Server, tmp_path: Path) -> None:
    """After a change in ten files only these and the tree are sent."""
    bytes_of = random.Random(1).randbytes
    for number in range(300):
        path = tmp_path / f"{number % 20}" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes_of(LARGE if number % 20 == 7 else 20_000))
    changed = [tmp_path / f"{number % 20}" / f"{number}" for number in range(0, 50, 5)]
    with Relay(server.port) as relay, Client(relay.url) as client:
        before = client.put_tree(tmp_path)
        assert (before.files, before.sent) == (300, 300)
        for path in changed:
            path.write_bytes(bytes_of(20_000))
        carried = relay.carried
        after = client.put_tree(tmp_path)
        assert (after.files, after.sent) == (300, 10)
        # Their bytes, the tree, and the question for 300 blobs.
        assert relay.carried - carried < 10 * 20_000 + after.size + 300 * 120 + 20_000
        differ = {change.path: change.what for change in client.diff(before.hash, after.hash)}
        assert differ == {str(path.relative_to(tmp_path)): ("content", "time") for path in changed}
        carried = relay.carried
        assert client.put_tree(tmp_path).hash == after.hash
        assert relay.carried - carried < 300 * 120 + 20_000
        for blob in client.list():
            client.delete(blob.hash)


def test_exclusion(client: Client, tmp_path: Path) -> None:
    """What is excluded is neither sent nor in the tree."""
    (tmp_path / "cache").mkdir()
    for name in ("cache/a", "keep", "x.pyc"):
        (tmp_path / name).write_text(name)
    told = client.put_tree(tmp_path, exclude=["*.pyc", "cache/"])
    assert [entry.path for entry in client.tree(told.hash)] == [".", "keep"]
    assert told.files == 1
    assert not client.exists(sha256(b"x.pyc"))


def test_a_file_that_vanishes(client: Client, tmp_path: Path) -> None:
    """If a file is removed meanwhile there is no tree, and the error names the file."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() * LARGE)

    def remove(_: int) -> None:
        # One file is sent at a time, so that nobody has opened the last one.
        (tmp_path / "c").unlink(missing_ok=True)

    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError) as caught:
        client.put_tree(tmp_path, jobs=1, hashing=remove)
    assert caught.value.filename == str(tmp_path / "c")
    assert {blob.hash for blob in client.list()} <= {sha256(name * LARGE) for name in (b"a", b"b")}
    caught.value.__traceback__ = None
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1  # a kept connection


def test_a_file_that_changes_once(client: Client, tmp_path: Path) -> None:
    """A file that changes while it is read is read again, and the tree has what it is then."""
    path = tmp_path / "a" / "file"
    path.parent.mkdir()
    path.write_bytes(bytes(LARGE))
    after = b"after" * LARGE
    changed = 0

    def change(_: int) -> None:
        nonlocal changed
        if not changed:
            path.write_bytes(after)
        changed += 1

    told = client.put_tree(tmp_path, hashing=change)
    (file,) = [entry for entry in client.tree(told.hash) if entry.kind is Kind.FILE]
    assert file.hash is not None and changed
    assert (file.size, file.hash.hex, file.modified) == (len(after), sha256(after), path.stat().st_mtime_ns)
    assert client.get_bytes(file.hash.hex) == after


@pytest.mark.parametrize("how", ["grows", "touched", "shrinks"])
def test_a_file_that_keeps_changing(client: Client, tmp_path: Path, how: str) -> None:
    """A file that changes both times has no place in a tree."""
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * LARGE))
    count = 0

    def change(_: int) -> None:
        nonlocal count
        count += 1
        if how == "touched":
            os.utime(path, ns=(count, count))
        else:
            os.truncate(path, 4 * LARGE + (count if how == "grows" else -count))

    with pytest.raises((OSError, DigestMismatch)) as caught:
        client.put_tree(tmp_path, hashing=change)
    match caught.value:
        case OSError(filename=named) | DigestMismatch(evidence={"path": named}):
            assert named == str(path)
        case _:
            pytest.fail("the error does not name the file")
    for blob in client.list():
        assert not client.get_bytes(blob.hash).startswith(b"#mtree")


def test_a_file_that_is_refused(tmp_path: Path) -> None:
    """A file that the server refuses is named, and there is no tree."""
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "folder" / "a" / "large").write_bytes(bytes(2000))
    (tmp_path / "folder" / "b").write_bytes(b"b")
    with gunicorn(tmp_path, WSGI_STORE_MAX_SIZE="1000") as server:
        with Client(f"http://127.0.0.1:{server.port}") as client:
            with pytest.raises(TooLarge) as caught:
                client.put_tree(tmp_path / "folder")
            assert caught.value.evidence["path"] == str(tmp_path / "folder" / "a" / "large")
            assert {blob.hash for blob in client.list()} <= {sha256(b"b")}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_algorithm(tmp_path: Path, algorithm: Algorithm) -> None:
    """The tree has the primary hashes of the store, whatever its algorithm."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "small").write_bytes(b"small")
    (tmp_path / "folder" / "large").write_bytes(bytes(LARGE))
    with gunicorn(tmp_path, workers=1, WSGI_STORE_HASH=algorithm.value) as server:
        with Client(f"http://127.0.0.1:{server.port}") as client:
            first, again = (client.put_tree(tmp_path / "folder") for _ in range(2))
            assert (first.hash, first.sent) == (again.hash, 2)
            assert again.sent == 0
            _, *files = client.tree(first.hash)
            for file in files:
                assert file.hash is not None and file.hash.algorithm is algorithm
                assert client.get_bytes(file.hash.hex) == (tmp_path / "folder" / file.path).read_bytes()


def test_another_store_takes_the_place(tmp_path: Path) -> None:
    """If a store with another hash takes the place of the first one, there is no tree until the next try."""
    for name in ("folder", "one", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"file")
    with (
        gunicorn(tmp_path / "one", workers=1) as one,
        gunicorn(tmp_path / "other", workers=1, WSGI_STORE_HASH="sha512") as other,
        Relay(one.port) as relay,
        Client(relay.url) as client,
    ):
        assert client.algorithm is Algorithm.SHA256
        relay.target = other.port
        relay.mend()
        with pytest.raises(UnexpectedAnswer, match="start again") as caught:
            client.put_tree(tmp_path / "folder")
        assert caught.value.evidence["path"] == str(tmp_path / "folder" / "file")
        _, file = client.tree(client.put_tree(tmp_path / "folder").hash)
        assert file.hash is not None and file.hash.algorithm is Algorithm.SHA512


def test_paths_longer_than_a_call_takes(client: Client, tmp_path: Path) -> None:
    """A folder may be so deep that no call takes the path of what is in it (PATH_MAX, path_resolution(7))."""
    top = tmp_path / "top"
    top.mkdir()
    name = "\n" * 255
    with ExitStack() as opened:
        fd = opened.enter_context(Directory(str(top))).fd
        for _ in range(20):
            os.mkdir(name, dir_fd=fd)
            fd = opened.enter_context(Directory(name, around=fd)).fd
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    try:
        told = client.put_tree(top)
        *_, last = client.tree(told.hash)
        assert last.path == f"{name}/" * 20 + "file"
    finally:
        shutil.rmtree(top)


def grown(client: Client, folder: Path) -> int:
    """The bytes by which memory grew at most while a folder was uploaded and read back."""
    tracemalloc.start()
    try:
        told = client.put_tree(folder)
        assert sum(entry.kind is Kind.FILE for entry in client.tree(told.hash)) == told.files
        assert not list(client.diff(told.hash, told.hash))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.races
def test_memory_does_not_grow(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as many files in as many more directories take the same memory."""
    # All batches are of one size, as those of a large folder are.
    monkeypatch.setattr(many, "FILES", many.FIRST_FILES)
    sizes = []
    for count in (25, 100):
        folder = tmp_path / str(count)
        for directory in range(count):
            (folder / f"{directory}").mkdir(parents=True)
            for number in range(40):
                (folder / f"{directory}" / f"{number}").write_bytes(b"%d" % number)
        sizes.append(grown(client, folder))
    assert sizes[1] < 1.5 * sizes[0] + (1 << 20), sizes


@pytest.mark.clients
@pytest.mark.skipif(not shutil.which("bsdtar") or not shutil.which("mtree"), reason="needs bsdtar and mtree")
def test_programs_for_mtree(client: Client, tmp_path: Path) -> None:
    """bsdtar(1) lists a tree, and mtree(8) verifies the folder by it, and finds what was changed."""
    top = tmp_path / "top"
    top.mkdir()
    odd_folder(top)
    tree = tmp_path / "tree"
    client.get(client.put_tree(top).hash, tree)

    def check(folder: Path) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["mtree", "-p", folder, "-f", tree], capture_output=True, check=False, timeout=60
        )

    done = check(top)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    listed = subprocess.run(
        ["bsdtar", "-tf", tree],
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert listed.stderr == b""
    assert set(listed.stdout.splitlines()) == {
        b".",
        b"./a b",
        b"./a b/#1 = * ?[x]\\\\",
        b"./a b/empty",
        b"./empty",
        b"./large",
        b"./line\\nbreak\\t",
        b"./nowhere",
        b"./\\303\\244",
        b"./\\377\\376 not UTF-8",
    }
    (top / "a b" / "#1 = * ?[x]\\").write_bytes(b"ODD")
    (top / "nowhere").unlink()
    (top / "nowhere").symlink_to("elsewhere")
    done = check(top)
    assert done.returncode == 2
    assert b"sha256" in done.stdout and b"elsewhere" in done.stdout
