"""The Python client against the shipped gunicorn."""

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest
from urllib3 import HTTPResponse
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from examples.client import there_and_back
from tests.support.access import line
from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.kinds import digest_of
from tests.support.servers import Server, gunicorn
from wsgi_store.assembly import create_app
from wsgi_store.client import Client, RemoteBlob, Uploaded, resume
from wsgi_store.client.refusals import refusal
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import (
    BY_CODE,
    BadRequest,
    BlobNotFound,
    ConfigError,
    Denied,
    DigestMismatch,
    MalformedHash,
    StorageFull,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
)
from wsgi_store.web.problems import problem


def test_a_file_system_without_links(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links, a download is renamed and still overwrites no other file."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    client.put(DATA)
    monkeypatch.setattr(os, "link", refuse)
    client.get(HASH, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == DATA
    (tmp_path / "down").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        client.get(HASH, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"another's"


RETRY_AFTER: list[tuple[str, dict[str, float]]] = [
    ("60", {"retry_after": 60.0}),
    ("soon", {}),
    ("", {}),
    ("9" * 5000, {}),
    ("Fri, 31 Dec 99999 23:59:59 GMT", {}),
]


def test_a_time_to_wait_that_is_none() -> None:
    """An unreadable Retry-After is ignored."""
    for text, evidence in RETRY_AFTER:
        answer = HTTPResponse(status=503, headers={"Retry-After": text}, preload_content=False)
        error = refusal("http://x", answer, {})
        assert isinstance(error, StoreUnavailable)
        assert error.evidence == evidence


def test_the_way_of_a_blob(client: Client, tmp_path: Path) -> None:
    """A file can be uploaded, described, listed, downloaded unchanged and removed."""
    path = tmp_path / "up"
    path.write_bytes(DATA)
    blob = (HASH, SIZE, client.url(HASH), {"sha256": HASH})
    assert client.put(path) == Uploaded(*blob, created=True)
    assert client.put(DATA) == Uploaded(*blob, created=False)
    assert client.stat(HASH.upper()) == RemoteBlob(*blob)
    assert list(client.list()) == [RemoteBlob(*blob)]
    assert client.get(HASH, tmp_path / "down") == RemoteBlob(*blob)
    assert (tmp_path / "down").read_bytes() == DATA
    assert sorted(os.listdir(tmp_path)) == ["down", "up"]
    assert client.delete(HASH) == {"sha256": HASH}
    for ask in (client.stat, client.delete, client.open):
        with pytest.raises(BlobNotFound) as caught:
            ask(HASH)
        assert caught.value.evidence.get("hash", HASH) == HASH


def test_the_example(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/python.md does what it says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.json").write_text('{"a": 1}')
    assert there_and_back(client.url(""), None, "file.json") == hashlib.sha256(b'{"a": 1}').hexdigest()
    assert (tmp_path / "copy.json").read_text() == '{"a": 1}'


def test_blake3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client compares hashes of blake3; without its package it says so, and sends or writes nothing."""
    with (
        gunicorn(tmp_path, WSGI_STORE_HASH="blake3") as server,
        Client(f"http://127.0.0.1:{server.port}") as client,
    ):
        held = client.put(DATA)
        assert held.hash == digest_of(Algorithm.BLAKE3, DATA).hex
        assert client.get(held.hash, tmp_path / "down").size == SIZE
        monkeypatch.setitem(sys.modules, "blake3", None)
        for use in (lambda: client.put(b"other"), lambda: client.get(held.hash, tmp_path / "again")):
            with pytest.raises(ConfigError, match="^blake3 needs the package blake3: install the extra "):
                use()
        assert client.stat(held.hash).size == SIZE
        assert [blob.hash for blob in client.list()] == [held.hash]
    assert not (tmp_path / "again").exists()


def test_a_prefix(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client works with a store mounted under a prefix, also where it can continue uploads."""
    monkeypatch.setattr(resume, "LEAST", 1 << 20)
    app = DispatcherMiddleware(NotFound(), {"/a/b": create_app(config)})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        for slash in ("", "/"):
            with Client(f"http://127.0.0.1:{server.port}/a/b{slash}") as client:
                blob = client.put(b"hello")
                assert blob.url == f"http://127.0.0.1:{server.port}/a/b/{blob.hash}"
                assert [blob.hash] == [listed.hash for listed in client.list()]
                client.get(blob.hash, tmp_path / "file", force=True)
                assert client.put(DATA).url == f"http://127.0.0.1:{server.port}/a/b/{HASH}"
                assert client.resumes
                client.delete(HASH)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_sources(client: Client, tmp_path: Path) -> None:
    """The client uploads bytes, paths, files from their current position, pipes and empty input."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        file.seek(SIZE - 5)
        assert client.put(file).hash == hashlib.sha256(DATA[-5:]).hexdigest()
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        assert client.put(cat.stdout).hash == HASH
    assert client.put(io.BytesIO(b"")).size == client.put(b"").size == 0
    with pytest.raises(FileNotFoundError):
        client.put(tmp_path / "nothing")


def test_reading(client: Client) -> None:
    """A download can be read like a file, in portions of any size, or iterated in pieces."""
    client.put(DATA)
    with client.open(HASH) as download:
        assert download.size == SIZE
        buffered = io.BufferedReader(download, 1000)
        assert [buffered.read(7), buffered.read(70_000)] == [DATA[:7], DATA[7:70_007]]
        assert buffered.read() == DATA[70_007:]
    with client.open(HASH) as download:
        assert b"".join(download) == DATA
        assert download.read(1) == b""
    with client.open(HASH) as download:
        assert download.read(10) == DATA[:10]
    with client.open(client.put(b"").hash) as download:
        assert download.read() == b""


def test_an_announced_hash(client: Client) -> None:
    """Only a file with the announced hash is stored, in upper or lower case."""
    assert client.put(b"hello", hash_=hashlib.sha256(b"hello").hexdigest().upper()).created
    with pytest.raises(DigestMismatch) as caught:
        client.put(b"other", hash_=HASH)
    assert caught.value.evidence["expected"] == f"sha256:{HASH}"
    for malformed in ("&x", HASH[:-1], "0" * 32):
        with pytest.raises(MalformedHash):
            client.put(b"other", hash_=malformed)
    assert len(list(client.list())) == 1


def test_pages(client: Client) -> None:
    """A listing continues from page to page, starts after a given hash and stops at a limit."""
    hashes = sorted(client.put(bytes([number])).hash for number in range(5))
    assert [blob.hash for blob in client.list(page_size=2)] == hashes
    assert [blob.hash for blob in client.list(after=hashes[1], page_size=2)] == hashes[2:]
    for prefix in (hashes[0][0], hashes[1].upper(), "", hashes[2][:3], "0" * 64):
        begins = [one for one in hashes if one.startswith(prefix.lower())]
        assert [blob.hash for blob in client.list(prefix=prefix, page_size=1)] == begins
    with pytest.raises(BadRequest):
        list(client.list(prefix="é"))
    for limit in range(7):
        assert [blob.hash for blob in client.list(limit=limit, page_size=2)] == hashes[:limit]


def test_progress(client: Client, tmp_path: Path) -> None:
    """The progress callback receives the number of bytes transferred, up to the total."""
    told: list[int] = []
    client.put(DATA, progress=told.append)
    assert told == sorted(told) and told[-1] == SIZE and len(told) > 2
    told.clear()
    client.get(HASH, tmp_path / "file", progress=told.append)
    assert told == sorted(told) and told[-1] == SIZE and len(told) > 2


def test_threads(server: Server, client: Client) -> None:
    """Many threads can share one client, which asks for the algorithm once."""
    asked = len(server.logged(r"GET / "))

    def work(number: int) -> bool:
        data = DATA[: 1000 * number]
        with client.open(client.put(data).hash) as download:
            return download.read() == data

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(work, range(100)))
    assert len(server.await_log("GET / ", asked + 1)) == asked + 1
    assert client.algorithm is Algorithm.SHA256


@pytest.mark.parametrize(
    ("there", "first"),
    [
        (DATA[:1_234_567], 1_234_567),
        (DATA, SIZE),
        (b"x" + DATA[1:1_000_000], 0),
        (DATA + b"more", 0),
        (b"", 0),
    ],
    ids=["beginning", "whole", "another file", "longer", "empty"],
)
def test_carrying_on(server: Server, client: Client, tmp_path: Path, there: bytes, first: int) -> None:
    """A download resumes from FILE.part, or restarts if that belongs to another file."""
    client.put(DATA)
    path = tmp_path / "file"
    (tmp_path / "file.part").write_bytes(there)
    logged = f"GET /{HASH} (206|200|416) ([0-9]+) B"
    before = len(server.logged(logged))
    client.get(HASH, path)
    assert path.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["file"]
    # A damaged part is noticed after one answer, and needs a second request.
    last = server.await_log(logged, before + 1 + (first == 0 < len(there)))[-1]
    if first < SIZE:
        assert int(last[2]) == SIZE - first
    else:
        assert last[1] == "416"


def test_nothing_is_replaced(client: Client, tmp_path: Path) -> None:
    """An existing file is replaced only with force, and anything but a regular file never."""
    client.put(b"new")
    hash_ = hashlib.sha256(b"new").hexdigest()
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        client.get(hash_, path)
    assert path.read_bytes() == b"old"
    client.get(hash_, path, force=True)
    assert path.read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileExistsError):
            client.get(hash_, other, force=True)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        client.get(hash_, tmp_path / "link")
    with pytest.raises(BlobNotFound):
        client.get(HASH, tmp_path / "missing")
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "pipe"]


def test_one_download_to_a_file(client: Client, tmp_path: Path) -> None:
    """A second simultaneous download to the same file fails."""
    client.put(DATA)
    seen = []

    def meanwhile(done: int) -> None:
        if not seen:
            seen.append(done)
            with pytest.raises(BlockingIOError):
                client.get(HASH, tmp_path / "file")

    client.get(HASH, tmp_path / "file", progress=meanwhile)
    assert seen
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("method", ["put", "get"])
def test_memory(client: Client, tmp_path: Path, method: str) -> None:
    """A transfer takes no more memory for a large file than for a small one."""
    sizes = (4 << 20, 128 << 20)
    code = (
        "import resource, sys; from wsgi_store.client import Client\n"
        "url, method, *arguments = sys.argv[1:]\n"
        "getattr(Client(url), method)(*arguments)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for size in sizes:
        path = tmp_path / str(size)
        path.write_bytes(b"")
        os.truncate(path, size)
        arguments = [str(path)] if method == "put" else [client.put(path).hash, f"{path}.down"]
        command = [sys.executable, "-c", code, client.url(""), method, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, timeout=60)
        peaks.append(int(done.stdout) << 10)
    assert peaks[1] - peaks[0] < 8 << 20


@pytest.mark.parametrize("code", BY_CODE)
def test_a_failure_is_the_same_on_both_sides(code: str) -> None:
    """The client raises the same error as the server: class, message and evidence."""
    evidence = {"path": "x", "limit": 5, "size": 7, "hash": HASH, "allowed": ["GET"], "host": "a"}
    raised = BY_CODE[code]("it failed", **evidence, files=[{"name": "a", "error": {"status": 413}}])
    answer = problem(raised, "identity")
    status = HTTPResponse(status=int(answer.status[:3]))
    told = refusal("http://a", status, json.loads(b"".join(answer.body)))
    assert (type(told), str(told)) == (BY_CODE[code], str(raised))
    assert vars(told) == vars(raised)


@pytest.fixture(scope="module", name="guarded")
def fixture_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tokens and a size limit."""
    directory = tmp_path_factory.mktemp("guarded")
    tokens = directory / "tokens"
    tokens.write_text(line("all", "read,write,delete,list") + line("reader", "read"), encoding="ascii")
    with gunicorn(directory, WSGI_STORE_TOKENS=str(tokens), WSGI_STORE_MAX_SIZE="10MiB") as server:
        yield server


@pytest.mark.parametrize(
    ("token", "size", "kind"),
    [(None, 50 << 20, Unauthenticated), ("reader", 50 << 20, Denied), ("all", 50 << 20, TooLarge)],
)
@pytest.mark.parametrize("pipe", [False, True], ids=["length", "chunked"])
def test_refusals_are_seen(guarded: Server, token: str | None, size: int, kind: type, pipe: bool) -> None:
    """If the server rejects an upload early, the client always sees the error and stops sending."""
    sent: list[int] = []
    with Client(f"http://127.0.0.1:{guarded.port}", token, retries=0) as client:
        for _ in range(10):
            file = io.BytesIO(bytes(size))
            if pipe:
                file.seekable = lambda: False  # type: ignore[method-assign]
            with pytest.raises(kind):
                client.put(file, progress=sent.append)
        assert max(sent, default=0) < size
        if token == "all":
            assert client.put(b"small").size == 5
    assert not guarded.logged("ERROR")


def test_credentials(guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token takes precedence over the password in the URL, which takes precedence over .netrc."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    address = f"127.0.0.1:{guarded.port}"
    known = [
        (f"http://{address}", "all"),
        (f"http://me:a%6cl@{address}", None),
        (f"http://u:x@{address}", "all"),
    ]
    for url, token in known:
        with Client(url, token) as client:
            assert client.put(b"x").hash
            assert client.url("").count("@") == 0
    with pytest.raises(Unauthenticated), Client(f"http://{address}") as client:
        client.put(b"x")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password all\n", encoding="ascii")
    with Client(f"http://{address}") as client:
        assert client.put(b"x").hash
    with pytest.raises(Unauthenticated), Client(f"http://me:wrong@{address}") as client:
        client.put(b"x")


@pytest.mark.parametrize(
    "text", ["machine 127.0.0.1 hush", "hush\n", "machine \xff"], ids=["name", "word", "bytes"]
)
def test_a_bad_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """An error in .netrc is reported without quoting the file."""
    (tmp_path / "netrc").write_text(text, encoding="latin-1")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigError, match="netrc") as caught:
        Client("http://127.0.0.1:1")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://u:secret@a",
        "http://",
        "http://a?secret",
        "http://a#b",
        "http://u:secret@a:b",
    ],
)
def test_a_bad_url(url: str) -> None:
    """An invalid server URL is rejected without being shown."""
    with pytest.raises(ConfigError, match="^the URL of the server: expected ") as caught:
        Client(url)
    assert "secret" not in str(caught.value)


def test_a_name_that_no_field_carries() -> None:
    """A user name with characters outside Latin-1 is rejected without being shown."""
    with pytest.raises(ConfigError, match="^user name and password: expected Latin-1 characters$"):
        Client("http://%E2%82%AC:secret@127.0.0.1:1")


@pytest.mark.parametrize("token", ["", "a b", "a\r\nb", "ä"])
def test_a_bad_token(token: str) -> None:
    """A token that cannot be sent in a header field is rejected without being shown."""
    with pytest.raises(ConfigError, match="^the token: expected printable ASCII characters without spaces$"):
        Client("http://127.0.0.1:1", token)


def test_no_room(tmp_path: Path) -> None:
    """A full disk is reported as such, without retries."""
    with gunicorn(tmp_path, WSGI_STORE_MIN_FREE="900000GiB") as server:
        server.expected += ["ERROR"]
        with Client(f"http://127.0.0.1:{server.port}") as client, pytest.raises(StorageFull):
            client.put(DATA)
        assert len(server.logged("ERROR")) == 1
