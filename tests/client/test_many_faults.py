"""Uploads of many files to servers that refuse, fail, end, change or lie meanwhile."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.client.test_named import MD5, SHA256, migrate
from tests.support.access import line
from tests.support.faults import disk, full, intact, remount
from tests.support.peers import hurried, reply, saying
from tests.support.relay import Break, Relay, Way
from tests.support.servers import PROJECT, Server, gunicorn
from wsgi_store.client import Client, Uploaded, many
from wsgi_store.errors import (
    Denied,
    FilesRefused,
    ReadOnly,
    StorageFull,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
    UnexpectedAnswer,
    UnexpectedDigest,
    Unreachable,
)
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.testing.helpers import COLLIDING

FILES = [Random(number).randbytes(100 + number) for number in range(600)]
LARGE = Random(5).randbytes(many.SMALL + 1)


def hash_of(data: bytes) -> str:
    """The name of a blob."""
    return hashlib.sha256(data).hexdigest()


def outcomes(client: Client, sources: Any, **options: Any) -> list[Any]:
    """What became of files."""
    return [one.outcome for one in client.put_many(sources, **options)]


def kinds(found: list[Any]) -> set[type]:
    """The classes of outcomes."""
    return {type(one) for one in found}


def created(found: list[Any]) -> set[bool]:
    """Whether uploads that succeeded created their blobs."""
    assert kinds(found) == {Uploaded}, found
    return {one.created for one in found}


def address(server: Server) -> str:
    """The URL of a service."""
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module", name="guarded")
def fixture_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tokens and limits."""
    directory = tmp_path_factory.mktemp("guarded")
    text = line("all", "read,write,delete,list") + line("reader", "read") + line("writer", "write")
    (directory / "tokens").write_text(text, encoding="ascii")
    settings = {"TOKENS": str(directory / "tokens"), "MAX_SIZE": "300000", "MAX_FORM_SIZE": "600000"}
    with gunicorn(directory, **{f"WSGI_STORE_{name}": value for name, value in settings.items()}) as server:
        yield server


def test_without_the_right_to_ask(guarded: Server) -> None:
    """Everything is sent, and the question is not repeated."""
    sources = [*FILES, LARGE]
    with Client(address(guarded), "all") as client:
        for blob in client.list():
            client.delete(blob.hash)
    with Client(address(guarded), "writer") as client:
        assert created(outcomes(client, sources, jobs=1)) == {True}
        before = len(guarded.logged("POST /missing"))
        assert created(outcomes(client, sources, jobs=1)) == {False}
        assert len(guarded.await_log("POST /missing", before + 1)) == before + 1


@pytest.mark.parametrize(
    ("token", "kind"), [("reader", Denied), (None, Unauthenticated), ("x", Unauthenticated)]
)
def test_without_the_right_to_upload(guarded: Server, token: str | None, kind: type) -> None:
    """Each file has this failure, with the scope that is missing."""
    with Client(address(guarded), token) as client:
        if token == "x":
            with pytest.raises(Unauthenticated):
                _ = client.algorithm
        found = outcomes(client, [*FILES, LARGE])
    assert kinds(found) == {kind} and len(found) == len(FILES) + 1
    assert all(one.evidence.get("scope") == "write" for one in found if kind is Denied)


def test_files_that_are_too_large(guarded: Server) -> None:
    """They are refused, and the others of the same request are stored."""
    sources = [b"a", bytes(250_000), bytes(400_000), b"b", bytes(310_000), b"c"]
    with Client(address(guarded), "all") as client:
        found = outcomes(client, sources)
        assert [type(one) for one in found] == [Uploaded, Uploaded, TooLarge, Uploaded, TooLarge, Uploaded]
        assert {one.evidence["limit"] for one in found if isinstance(one, TooLarge)} == {300_000}


def test_forms_that_are_too_large(guarded: Server) -> None:
    """Files that are too much for one request take several."""
    sources = [Random(number).randbytes(200_000 + number) for number in range(15)]
    with Client(address(guarded), "all") as client:
        assert created(outcomes(client, sources)) == {True}
        assert created(outcomes(client, sources)) == {False}


@pytest.mark.parametrize("names", [[], [SHA256]], ids=["md5", "md5 and sha256"])
def test_a_store_of_md5(tmp_path: Path, names: list[Any]) -> None:
    """Files are not taken for others with the same md5: the server is asked by another hash, or compares."""
    LocalStore(str(tmp_path / "store"), MD5, names=names)
    with gunicorn(tmp_path, WSGI_STORE_HASH="md5") as server, Client(address(server)) as client:
        first = outcomes(client, [b"x", COLLIDING[0], *FILES, b"x", LARGE])
        assert [one.created for one in first].count(False) == 1
        assert [one.hash for one in first[2:-2]] == [hashlib.md5(data).hexdigest() for data in FILES]
        posts = len(server.logged("POST / "))
        again = outcomes(client, [b"x", *FILES, LARGE])
        assert created(again) == {False}
        assert [one.hash for one in again[1:-1]] == [one.hash for one in first[2:-2]]
        assert (len(server.logged("POST / ")) == posts) == bool(names)
        assert again[-1].names["md5"] == hashlib.md5(LARGE).hexdigest()
        assert not names or again[-1].names["sha256"] == hash_of(LARGE)
        collided = outcomes(client, [b"before", COLLIDING[1], b"after"])
        assert [type(one).__name__ for one in collided] == ["Uploaded", "DigestCollision", "Uploaded"]
        assert collided[1].evidence["hash"] == hashlib.md5(COLLIDING[1]).hexdigest()


def test_ambiguous_names(tmp_path: Path) -> None:
    """Each upload tells by which algorithm its hash leads to another file."""
    LocalStore(str(tmp_path / "store"), SHA256, names=[MD5])
    with gunicorn(tmp_path, WSGI_STORE_HASH="sha256") as server, Client(address(server)) as client:
        found = outcomes(client, [b"before", *COLLIDING, b"after"])
        assert [one.ambiguous for one in found] == [(), (), ("md5",), ()]
        assert [set(one.names) for one in found] == [
            {"sha256", "md5"},
            {"sha256", "md5"},
            {"sha256"},
            {"sha256", "md5"},
        ]


def test_a_healed_copy(tmp_path: Path) -> None:
    """A damaged copy of another size counts as missing, and is healed."""
    with gunicorn(tmp_path) as server, Client(address(server)) as client:
        outcomes(client, FILES)
        path = server.root / hash_of(FILES[3])[:2] / hash_of(FILES[3])
        path.chmod(0o644)
        path.write_bytes(b"?")
        found = outcomes(client, FILES[:10])
        assert [one.healed for one in found] == [number == 3 for number in range(10)]
        assert path.read_bytes() == FILES[3]


@pytest.mark.races
@pytest.mark.parametrize("end", [False, True], ids=["begun", "ended"])
@pytest.mark.parametrize("jobs", [1, 4])
def test_a_migration_while_files_are_sent(tmp_path: Path, end: bool, jobs: int) -> None:
    """Files hashed by the old algorithm are compared by it, or hashed again; all arrive."""
    LocalStore(str(tmp_path / "store"), MD5)
    with gunicorn(tmp_path, WSGI_STORE_HASH="md5") as server, Client(address(server)) as client:

        def sources() -> Iterator[bytes]:
            for number, data in enumerate([*FILES[:400], LARGE, LARGE + b"?", *FILES[400:]]):
                if number == 300:
                    migrate(server, end=end)
                yield data

        found = outcomes(client, sources(), jobs=jobs)
        assert kinds(found) == {Uploaded}
        assert {one.hash for one in found[-100:]} == {hash_of(data) for data in FILES[-100:]}
        assert created(outcomes(client, [*FILES, LARGE])) == {False}
        for data in FILES[::50]:
            assert client.get_bytes(hash_of(data)) == data


def test_an_older_server(tmp_path: Path) -> None:
    """Each file takes a request of its own, and nothing is said about that."""
    arguments = ("--pythonpath", str(PROJECT), "tests.support.older:application")
    with gunicorn(tmp_path, *arguments) as server, Client(address(server)) as client:
        sources = [*FILES[:300], LARGE]
        assert created(outcomes(client, sources, jobs=1)) == {True}
        assert len(server.logged("POST / 200")) == 300
        heads = len(server.logged("HEAD /"))
        assert created(outcomes(client, [LARGE, bytes(10), b""])) == {False, True}
        assert len(server.await_log("HEAD /", heads + 1)) == heads + 1
        assert [one.created for one in outcomes(client, [*FILES[298:303], LARGE], dry_run=True)] == [
            *(False, False, True, True, True, False)
        ]


@pytest.mark.parametrize("status", ["405 No", "501 No", "400 No"])
def test_a_proxy_that_lets_no_question_pass(status: str) -> None:
    """A file is sent if nothing can be asked, neither by a list nor by HEAD."""
    refused = reply(b"", status)
    stored = reply(json.dumps(told(LARGE)[0]).encode())
    with saying(refused, refused, stored) as peer, hurried(peer.url) as client:
        assert created(outcomes(client, [LARGE])) == {True}
        assert [head.split()[0] for head in peer.seen("")] == ["POST", "HEAD", "POST"]


@pytest.mark.parametrize("kept", ["there", "elsewhere"])
def test_a_read_only_store(tmp_path: Path, kept: str) -> None:
    """Each file has this failure; a dry run still tells what is there."""
    sources = [*FILES[:20], LARGE]
    with gunicorn(tmp_path) as server, Client(address(server)) as client:
        outcomes(client, sources if kept == "there" else [b"other"])
    with gunicorn(tmp_path, WSGI_STORE_READ_ONLY="yes") as server, Client(address(server)) as client:
        assert kinds(outcomes(client, sources)) == {ReadOnly}
        assert created(outcomes(client, sources, dry_run=True)) == {kept == "elsewhere"}


def test_a_full_disk(tmp_path: Path) -> None:
    """Files that fit are stored, the rest has this failure, and later all of them can be sent."""
    sources = [Random(number).randbytes(50_000 + number) for number in range(100)]
    with disk("tmpfs", tmp_path / "store", 8 << 20):
        with gunicorn(tmp_path) as server, Client(address(server)) as client:
            server.expected.append(" ERROR .*")
            with full(server.root, leave=1 << 20):
                found = outcomes(client, [*sources, LARGE])
                assert kinds(found) == {Uploaded, StorageFull} or kinds(found) == {StorageFull}
            assert intact(server) == {one.hash for one in found if isinstance(one, Uploaded)}
            assert kinds(outcomes(client, [*sources, LARGE])) == {Uploaded}
            assert intact(server) == {hash_of(data) for data in [*sources, LARGE]}


@pytest.mark.races
def test_a_disk_that_turns_read_only(tmp_path: Path) -> None:
    """Files fail as long as it is, and are tried again."""
    with disk("tmpfs", tmp_path / "store", 8 << 20):
        with gunicorn(tmp_path) as server:
            server.expected.append(" ERROR .*")
            with hurried(address(server), retries=1) as client:
                remount(server.root, "ro")
                found = outcomes(client, [*FILES[:300], LARGE])
                # A client that still sends may find the connection closed before it has read the answer.
                assert kinds(found) <= {StoreUnavailable, ReadOnly, Unreachable} and len(found) == 301
                remount(server.root, "rw")
                assert created(outcomes(client, [*FILES[:300], LARGE])) == {True}


def test_a_server_that_is_killed(tmp_path: Path) -> None:
    """After kill -9 the client goes on with the next server; what was acknowledged is there."""
    first = gunicorn(tmp_path)
    servers = [first]
    with Relay(first.port) as relay, Client(relay.url, retries=10, first_pause=0.1) as client:
        acknowledged: list[str] = []
        try:

            def sources() -> Iterator[bytes]:
                for number in range(3000):
                    if number == 1500:
                        first.kill()
                        relay.cut()
                        for hash_ in acknowledged:
                            assert (first.root / hash_[:2] / hash_).exists()
                        servers.append(gunicorn(tmp_path))
                        relay.target = servers[-1].port
                    yield b"%d" % number

            for one in client.put_many(sources()):
                assert isinstance(one.outcome, Uploaded), one
                acknowledged.append(one.outcome.hash)
            assert acknowledged == [hash_of(b"%d" % number) for number in range(3000)]
            assert intact(servers[-1]) == set(acknowledged)
        finally:
            for server in servers:
                server.kill()


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    """Without a next one, all that was not acknowledged fails, and another call sends it."""
    server = gunicorn(tmp_path)
    with Relay(server.port) as relay, hurried(relay.url, retries=1) as client:

        def sources() -> Iterator[bytes]:
            for number, data in enumerate(FILES):
                if number == 500:
                    server.kill()
                    relay.cut()
                yield data

        found = outcomes(client, sources())
        assert kinds(found) in ({Uploaded, Unreachable}, {Unreachable}) and len(found) == len(FILES)
        with gunicorn(tmp_path) as again:
            relay.target = again.port
            assert kinds(outcomes(client, FILES)) == {Uploaded}
            assert intact(again) == {hash_of(data) for data in FILES}


@pytest.mark.races
@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("count", [50, 5_000, 60_000])
def test_connections_that_break(tmp_path: Path, way: Way, count: int) -> None:
    """A batch is sent again after a broken connection, whatever had arrived."""
    with gunicorn(tmp_path) as server, Relay(server.port) as relay:
        with hurried(relay.url) as client:
            assert client.algorithms
            relay.break_after(Break.CUT, way, count, 3)
            found = outcomes(client, FILES)
            assert kinds(found) == {Uploaded}
            assert [one.hash for one in found] == [hash_of(data) for data in FILES]
        assert intact(server) == {hash_of(data) for data in FILES}


def told(*files: bytes, **changes: Any) -> list[dict[str, Any]]:
    """What a server tells about files."""
    return [
        {"hash": hash_of(data), "algorithm": "sha256", "size": len(data), "created": True, **changes}
        for data in files
    ]


def answering(*answers: tuple[str, object]) -> Any:
    """A server that lacks two files and then gives these answers."""
    missing = {"missing": [hash_of(b"one"), hash_of(b"two")]}
    fields = {"Connection": "close", "Content_Type": "application/problem+json", "Retry_After": "0"}
    bodies = [("200 OK", missing), *answers]
    return saying(*(reply(json.dumps(body).encode(), status, **fields) for status, body in bodies))


def test_a_server_that_lies() -> None:
    """The file that it tells another hash of fails, and the others do not."""
    files = told(b"one") + told(b"two", hash=hash_of(b"2"))
    with answering(("200 OK", {"files": files})) as peer, hurried(peer.url) as client:
        one, two = outcomes(client, [b"one", b"two"])
        assert isinstance(one, Uploaded) and isinstance(two, UnexpectedDigest)
        assert two.expected == f"sha256:{hash_of(b'two')}"
        assert two.actual == f"sha256:{hash_of(b'2')}"


@pytest.mark.parametrize(
    "files",
    [
        [],
        told(b"one"),
        told(b"one", b"two", b"two"),
        "files",
        [5, None],
        told(b"one", b"two", size=4),
        told(b"one", b"two", created="yes"),
        told(b"one", b"two", hash="x"),
        [{"error": {}}, {"error": {"code": "none of these"}}],
        [{"error": 5}, {"error": []}],
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "422 No"])
def test_answers_that_make_no_sense(files: object, status: str) -> None:
    """They are not believed."""
    problem = {"code": "files_refused", "detail": "no", "files": files}
    with answering((status, problem)) as peer, hurried(peer.url) as client:
        assert kinds(outcomes(client, [b"one", b"two"])) == {UnexpectedAnswer}


def test_one_that_may_be_stored_later() -> None:
    """A file that the server cannot store now is sent again, without the one that it stored."""
    busy = {"code": "store_unavailable", "detail": "later", "status": 503}
    refused = {
        "code": "files_refused",
        "detail": "no",
        "files": [*told(b"one"), {"name": "-", "error": busy}],
    }
    answers = [("503 No", refused), ("503 No", {**refused, "files": [{"error": busy}]})]
    with answering(*answers, ("200 OK", {"files": told(b"two")})) as peer, hurried(peer.url) as client:
        assert created(outcomes(client, [b"one", b"two"])) == {True}
        lengths = [
            int(head.lower().partition("content-length: ")[2].split()[0]) for head in peer.seen("POST / ")
        ]
        assert len(lengths) == 3 and lengths[0] > lengths[1] == lengths[2]
    with answering(*answers) as peer, hurried(peer.url, retries=2) as client:
        one, two = outcomes(client, [b"one", b"two"])
        assert isinstance(one, Uploaded) and isinstance(two, StoreUnavailable)
        assert len(peer.seen("POST / ")) == 3


def test_a_form_that_was_not_read_to_its_end() -> None:
    """Files behind a failure of the store, of which the answer tells nothing, fail like it."""
    full = {"code": "storage_full", "detail": "no room"}
    refused: dict[str, Any] = {"code": "files_refused", "detail": "no", "files": [{"error": full}]}
    with answering(("507 No", refused)) as peer, hurried(peer.url) as client:
        assert kinds(outcomes(client, [b"one", b"two"])) == {StorageFull}
    refused["files"] = [{"error": {"code": "too_large", "detail": "large"}}]
    with answering(("413 No", refused)) as peer, hurried(peer.url) as client:
        assert kinds(outcomes(client, [b"one", b"two"])) == {UnexpectedAnswer}


def test_refusals_of_single_files() -> None:
    """Each has its own class and evidence."""
    errors: list[dict[str, Any]] = [
        {"code": "too_large", "detail": "large", "limit": 2},
        {"code": "digest_collision", "detail": "two", "hash": "x"},
    ]
    refused = {"code": "files_refused", "detail": "no", "files": [{"error": one} for one in errors]}
    with answering(("413 No", refused)) as peer, hurried(peer.url) as client:
        one, two = outcomes(client, [b"one", b"two"])
        assert isinstance(one, TooLarge) and one.evidence == {"limit": 2}
        assert two.code == "digest_collision" and not isinstance(two, FilesRefused)
        assert len(peer.seen("POST / ")) == 1


GROWTH = """
import sys
from wsgi_store.client import Client

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

client = Client(sys.argv[1])
first = 0
for number, one in enumerate(client.put_many(b"%d" % number for number in range(int(sys.argv[2])))):
    assert one.outcome.created, one
    if number == 5000:
        first = resident()
print(resident() - first)
"""


@pytest.mark.races
def test_memory(tmp_path: Path) -> None:
    """It does not grow with the number of files."""
    with gunicorn(tmp_path, WSGI_STORE_DURABILITY="none") as server:
        command = [sys.executable, "-c", GROWTH, address(server), "40000"]
        done = subprocess.run(command, check=True, capture_output=True, timeout=200)
        assert int(done.stdout) < 8 << 20
        assert len(server.blobs()) == 40_000


def test_a_slow_upload_delays_no_others(tmp_path: Path) -> None:
    """Small files are sent while a large one before them is, and only so many wait for it in memory."""
    (tmp_path / "large").write_bytes(LARGE * 8)
    with gunicorn(tmp_path) as server, Relay(server.port, 2e6) as relay, Client(relay.url) as client:
        begun = time.monotonic()
        found = outcomes(client, [tmp_path / "large", *FILES])
        assert created(found) == {True} and found[0].size == len(LARGE) * 8
        assert time.monotonic() - begun < 60
        assert not os.listdir(server.root / ".staging")
