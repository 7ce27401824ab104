"""nginx with the shipped settings: unbuffered uploads, and downloads without Python."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.access import bearer, line
from tests.support.exchanges import DATA, HASH, SIZE, told
from tests.support.servers import DEPLOY, Server, gunicorn, nginx
from tests.support.wire import Connection, message

MD5 = hashlib.md5(DATA).hexdigest()
# Files that a store has, or may have, beside its blobs.
HIDDEN = [
    ".tickets/1-a",
    f".uploads/{'a' * 32}/{'b' * 32}/0",
    ".quarantine/a",
    ".verified.json",
    ".staging/a",
    "store.json",
    "ab/x",
]
SITE = "https://app.example"
# Fields of the server or the connection, not of the blob.
HOP = {"server", "date", "connection", "x-request-id"}


@pytest.fixture(scope="module", name="backend")
def fixture_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn with one blob in its store, which has two names."""
    settings = {"WSGI_STORE_SENDFILE": "x-accel", "WSGI_STORE_CORS_ORIGINS": SITE, "WSGI_STORE_NAMES": "md5"}
    with gunicorn(tmp_path_factory.mktemp("backend"), **settings) as server:
        with Connection(server.port) as connection:
            assert told(connection.ask(message("POST", "/", DATA))) == (HASH, SIZE, True)
        yield server


@pytest.fixture(scope="module", name="proxy")
def fixture_proxy(backend: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """nginx that passes every request to the service."""
    with nginx(tmp_path_factory.mktemp("proxy"), backend, direct=False) as server:
        yield server


@pytest.fixture(scope="module", name="direct")
def fixture_direct(backend: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """nginx that sends blobs from the store's directory."""
    with nginx(tmp_path_factory.mktemp("direct"), backend, direct=True) as server:
        yield server


def head_of(backend: Server, target: str) -> dict[str, str]:
    """The header with which the service itself describes a blob."""
    with Connection(backend.port) as connection:
        fields = connection.ask(message("HEAD", target)).fields
    return {name: value for name, value in fields.items() if name not in HOP}


def test_accelerated(backend: Server, proxy: Server) -> None:
    """The service decides on a download, and nginx sends it with all of the service's fields."""
    with Connection(proxy.port) as connection:
        answer = connection.ask(message("GET", f"/{HASH}/rose.png"))
        assert answer.body == DATA
    fields = {name: value for name, value in answer.fields.items() if name not in HOP}
    assert fields == head_of(backend, f"/{HASH}/rose.png")
    line = backend.await_log(f"id={answer.fields['x-request-id']}")[0].string
    assert f"GET /{HASH}/rose.png 200 0 B" in line


def test_accelerated_by_a_further_name(backend: Server, proxy: Server) -> None:
    """nginx sends the file that a further name leads to, with the ETag of that name."""
    assert (backend.root / MD5[:2] / MD5).is_symlink()
    with Connection(proxy.port) as connection:
        answer = connection.ask(message("GET", f"/{MD5}"))
        assert answer.body == DATA
        part = connection.ask(message("GET", f"/{MD5}", Range="bytes=1-70000"))
        assert (part.status, part.body) == (206, DATA[1:70_001])
    fields = {name: value for name, value in answer.fields.items() if name not in HOP}
    assert fields == head_of(backend, f"/{MD5}")
    assert fields["etag"] == f'"{MD5}"'
    backend.await_log(f"GET /{MD5} 200 0 B .*id={answer.fields['x-request-id']}")


@pytest.mark.parametrize("part, status", [("bytes=0-", 206), (f"bytes={SIZE}-", 416)])
def test_accelerated_for_a_page_of_another_site(proxy: Server, part: str, status: int) -> None:
    """An answer sent by nginx has the CORS fields of the service."""
    with Connection(proxy.port) as connection:
        answer = connection.ask(message("GET", f"/{HASH}", Origin=SITE, Range=part))
    assert answer.status == status
    assert answer.fields["access-control-allow-origin"] == SITE
    assert "Content-Range" in answer.fields["access-control-expose-headers"]
    assert answer.fields["vary"] == "Origin"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_direct(backend: Server, direct: Server, method: str) -> None:
    """A blob sent from the directory has the same protective and caching fields."""
    with Connection(direct.port) as connection:
        answer = connection.ask(message(method, f"/{HASH}"))
        assert answer.status == 200
        assert answer.body == (DATA if method == "GET" else b"")
        assert connection.ask(message("GET", "/healthz")).status == 200
    fields = {name: value for name, value in answer.fields.items() if name not in HOP}
    expected = head_of(backend, f"/{HASH}")
    del expected["repr-digest"], expected["vary"]
    assert fields == expected
    assert answer.fields["x-request-id"] not in backend.text(), "Python was asked"


@pytest.mark.parametrize(
    "method, target, fields, status",
    [
        ("GET", f"/{'0' * 64}", {}, 404),
        ("GET", f"/{'0' * 33}", {}, 404),
        ("DELETE", f"/{'0' * 64}", {}, 404),
        ("POST", f"/{HASH}", {}, 405),
        ("GET", f"/{HASH.upper()}", {}, 200),
        ("GET", f"/{MD5}", {}, 200),
        ("GET", f"/{MD5}", {"If_None_Match": f'"{HASH}"'}, 304),
        ("GET", f"/{HASH}", {"If_None_Match": f'"{HASH}"'}, 304),
        ("GET", f"/{HASH}", {"If_Match": '"other"'}, 412),
        ("GET", f"/{HASH}", {"Range": "bytes=1-70000"}, 206),
        ("GET", f"/{HASH}", {"Range": f"bytes={SIZE}-"}, 416),
        ("GET", "/store.json", {}, 404),
        ("GET", "/.staging/", {}, 404),
        ("GET", f"/{HASH[:2]}/{HASH}", {}, 404),
        ("GET", f"/_blobs/{HASH[:2]}/{HASH}", {}, 404),
        ("GET", f"/{HASH}/../store.json", {}, 200),
        *[
            ("GET", f"{prefix}/{hidden}", {}, 404)
            for prefix in ("", "/_blobs", "/_blobs/00/..")
            for hidden in HIDDEN
        ],
    ],
)
def test_direct_leaves_the_rest(
    direct: Server, method: str, target: str, fields: dict[str, str], status: int
) -> None:
    """The service answers all requests but those for whole blobs; other files of the store get 404."""
    with Connection(direct.port) as connection:
        answer = connection.ask(message(method, target, b"" if method == "POST" else None, **fields))
    assert answer.status == status
    if status >= 400 and not target.startswith("/_blobs/"):
        assert json.loads(answer.body)["status"] == status
    elif status == 200:
        assert answer.body == DATA
    elif status == 206:
        assert answer.body == DATA[1:70_001]


@pytest.mark.parametrize("way", ["proxy", "direct"])
def test_only_blobs_are_sent(backend: Server, request: pytest.FixtureRequest, way: str) -> None:
    """nginx does not follow a symlink in a blob's place."""
    server: Server = request.getfixturevalue(way)
    link = backend.root / HASH[:2] / (HASH[:2] + "0" * 62)
    link.symlink_to(backend.root / "store.json")
    with Connection(server.port) as connection:
        assert connection.ask(message("GET", f"/{link.name}")).status in (403, 404)
    link.unlink()


@pytest.mark.parametrize("followed", [False, True])
def test_further_names(tmp_path: Path, followed: bool) -> None:
    """A further name leads to its blob and to no other, whether nginx follows links or asks the service."""
    names = [hashlib.md5(DATA).hexdigest(), hashlib.sha512(DATA).hexdigest()]
    shipped = (DEPLOY / "nginx-public-read.conf").read_text(encoding="utf-8")
    assert "disable_symlinks on from" in shipped
    locations = shipped.replace("symlinks on from", "symlinks if_not_owner from") if followed else shipped
    with (
        gunicorn(tmp_path, workers=1, WSGI_STORE_NAMES="md5,sha512") as backend,
        nginx(tmp_path, backend, direct=False, locations=locations) as direct,
        Connection(direct.port) as connection,
    ):
        assert told(connection.ask(message("POST", "/", DATA))) == (HASH, SIZE, True)
        for name in names:
            answer = connection.ask(message("GET", f"/{name}"))
            assert (answer.status, answer.body, answer.fields["etag"]) == (200, DATA, f'"{name}"')
            if followed:
                assert answer.fields["x-request-id"] not in backend.text(), "Python was asked"
            else:
                backend.await_log(f"id={answer.fields['x-request-id']}")
        assert connection.ask(message("DELETE", f"/{HASH}")).status == 200
        for name in names:
            answer = connection.ask(message("GET", f"/{name}"))
            assert (answer.status, json.loads(answer.body)["code"]) == (404, "blob_not_found")


def test_tokens_hold_behind_nginx(tmp_path: Path) -> None:
    """As shipped, nginx sends a blob only if the service allows it."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("all", "read,write"), encoding="ascii")
    tokens.chmod(0o600)
    settings = {"WSGI_STORE_TOKENS": str(tokens), "WSGI_STORE_SENDFILE": "x-accel"}
    with (
        gunicorn(tmp_path, workers=1, **settings) as backend,
        nginx(tmp_path, backend, direct=False) as proxy,
        closing(HTTPConnection("127.0.0.1", proxy.port, timeout=20)) as client,
    ):

        def ask(method: str, target: str, body: bytes | None = None, **fields: str) -> tuple[int, bytes]:
            client.request(method, target, body, fields)
            answer = client.getresponse()
            return answer.status, answer.read()

        assert ask("POST", "/", DATA, **bearer("all"))[0] == 200
        for method in ("GET", "HEAD"):
            for target in (f"/{HASH}", f"/{HASH}/a"):
                assert ask(method, target)[0] == 401
            assert ask(method, f"/_blobs/{HASH[:2]}/{HASH}")[0] == 404
        assert ask("GET", f"/{HASH}", **bearer("all")) == (200, DATA)


@pytest.mark.parametrize(
    "head, status",
    [
        (b"GET /healthz HTTP/1.0", 200),
        (b"GET http:///healthz HTTP/1.0", 400),
        (b"GET http://example.org:81/healthz HTTP/1.0", 200),
        (b"GET /healthz HTTP/1.0\r\nHost: example.org:81", 200),
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\nHost: example.org:81", 200),
        (b"GET /healthz HTTP/1.1\r\nConnection: close", 400),
    ],
    ids=["1.0", "empty", "in the target", "1.0 with a host", "1.1", "1.1 without"],
)
def test_hosts(proxy: Server, head: bytes, status: int) -> None:
    """An HTTP/1.0 request without Host, like a health check, is answered."""
    with Connection(proxy.port) as connection:
        assert connection.ask(head, b"\r\n\r\n").status == status


def test_delete(backend: Server, direct: Server) -> None:
    """A deleted blob is immediately gone for nginx."""
    with Connection(direct.port) as connection:
        hash_ = told(connection.ask(message("POST", "/", b"short-lived")))[0]
        assert connection.ask(message("GET", f"/{hash_}")).body == b"short-lived"
        assert connection.ask(message("DELETE", f"/{hash_}")).status == 200
        assert connection.ask(message("GET", f"/{hash_}")).status == 404
    assert backend.blobs() == {HASH}


def test_unbuffered(backend: Server, proxy: Server) -> None:
    """The service receives an upload while nginx is still receiving it."""
    with Connection(proxy.port) as connection:
        connection.send(message("POST", "/", Content_Length=SIZE), DATA[:1_000_000])
        backend.until_staged()
        connection.send(DATA[1_000_000:])
        assert told(connection.receive()) == (HASH, SIZE, False)


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
def test_vanished_uploader(backend: Server, proxy: Server, coded: bool) -> None:
    """An upload whose client disconnects stores nothing."""
    seen = len(backend.logged("POST / 400 "))
    before = backend.descriptors()
    with Connection(proxy.port) as connection:
        length = {"Transfer_Encoding": "chunked"} if coded else {"Content_Length": str(SIZE)}
        start = b"%x\r\n" % SIZE if coded else b""
        connection.send(message("POST", "/", **length), start, DATA[:1_000_000])
        backend.until_staged()
        connection.reset()
    backend.await_log("POST / 400 ", seen + 1)
    backend.until_unused(before)
    assert backend.blobs() == {HASH}
    assert not backend.staged()


def test_target(backend: Server, proxy: Server) -> None:
    """A file name reaches the service exactly as the client wrote it."""
    with Connection(proxy.port) as connection:
        answer = connection.ask(message("GET", f"/{HASH}/a%2Fb%20c//d.png"))
    assert answer.status == 200
    assert 'filename="a/b c//d.png"' in answer.fields["content-disposition"]
    # The server writes it down after the answer.
    backend.await_log("/a%2Fb%20c//d.png 200")


@pytest.mark.parametrize("part", ["%F0%9F%8C%B9", '"', "%22"])
def test_a_long_name(backend: Server, proxy: Server, part: str) -> None:
    """The longest file name a request line allows fits twice into the answer's header."""
    # The request line limit of the shipped gunicorn settings, less the rest of the line.
    room = 8190 - len(f"HEAD /{HASH}/%C3%A4.png HTTP/1.1\r\n")
    target = f"/{HASH}/%C3%A4{part * (room // len(part))}.png"
    with Connection(proxy.port) as connection:
        answer = connection.ask(message("GET", target))
    assert (answer.status, answer.body == DATA) == (200, True)
    disposition = answer.fields["content-disposition"]
    assert len(disposition) > 8000
    assert disposition == head_of(backend, target)["content-disposition"]
