"""Behind proxies: the URL prefix, the client's address, and the log."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config

from tests.support.access import bearer, line
from tests.support.pages import over, require_page
from tests.support.servers import PROJECT, Server, gunicorn, nginx
from tests.support.wire import Connection, message
from wsgi_store.gunicorn.proxies import TrustedProxies

BODY = b"hello\n"
HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
FAR = "203.0.113.9"
WHEN = r"\d{4}-\d\d-\d\dT[\d:.+-]+ INFO    \[\d+\] "


@pytest.mark.parametrize(
    "peer, field, trusted, client",
    [
        ("127.0.0.1", None, "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", FAR, "127.0.0.1", FAR),
        ("127.0.0.1", f"6.6.6.6, {FAR}", "127.0.0.1", FAR),
        ("127.0.0.1", f"6.6.6.6,{FAR}, 10.0.0.2 ,10.0.0.1", "127.0.0.1,10.0.0.0/8", FAR),
        ("127.0.0.1", "10.0.0.2, 10.0.0.1", "127.0.0.1,10.0.0.0/8", "10.0.0.2"),
        ("192.0.2.1", "6.6.6.6", "127.0.0.1", "192.0.2.1"),
        ("", FAR, "127.0.0.1", FAR),
        ("", None, "127.0.0.1", ""),
        ("192.0.2.1", f"6.6.6.6, {FAR}", "*", FAR),
        ("127.0.0.1", f"{FAR}:4711", "127.0.0.1", FAR),
        ("127.0.0.1", "[2001:db8::1]:4711", "127.0.0.1", "2001:db8::1"),
        ("::1", "2001:DB8::1", "::1", "2001:db8::1"),
        ("127.0.0.1", f"{FAR}, unknown", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", f"{FAR}, 1.2.3.4 user=root", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "1.2.3.999", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_client_address(peer: str, field: str | None, trusted: str, client: str) -> None:
    """The client is the last address in the chain that is not a trusted proxy's."""
    settings = Config()
    settings.set("forwarded_allow_ips", trusted)
    environ: dict[str, Any] = {"REMOTE_ADDR": peer}
    if field is not None:
        environ["HTTP_X_FORWARDED_FOR"] = field
    assert TrustedProxies(settings).client_address(environ) == client


@pytest.mark.parametrize("form", ["text", "json"])
def test_who_stored_this_and_when(tmp_path: Path, form: str) -> None:
    """The log lines of uploads and deletions have the client, user, hash and size."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("secret", "write,delete", name="ci"), encoding="ascii")
    tokens.chmod(0o600)
    settings = {"WSGI_STORE_TOKENS": str(tokens), "WSGI_STORE_LOG_FORMAT": form}
    with gunicorn(tmp_path, workers=1, **settings) as server, Connection(server.port) as connection:
        fields = {"X_Forwarded_For": f"6.6.6.6, {FAR}", **bearer("secret")}
        assert connection.ask(message("POST", "/?x=y", BODY, X_Request_ID="up", **fields)).status == 200
        assert connection.ask(message("POST", "/?hash=00", BODY, X_Request_ID="no", **fields)).status == 400
        assert connection.ask(message("DELETE", f"/{HASH}", X_Request_ID="off", **fields)).status == 200
        up, no, off = (server.await_log(rf"\b{name}\b")[0].string for name in ("up", "no", "off"))
    if form == "text":
        who = rf"client={FAR} user=ci"
        blob = f" hash={HASH} size=6"
        assert re.fullmatch(rf"{WHEN}POST / 200 \d+ B [\d.]+ ms {who}{blob} id=up", up)
        assert re.fullmatch(rf"{WHEN}POST / 400 \d+ B [\d.]+ ms {who} id=no", no)
        assert re.fullmatch(rf"{WHEN}DELETE /{HASH} 200 \d+ B [\d.]+ ms {who}{blob} id=off", off)
    else:
        for text in (up, off):
            said = json.loads(text)
            told = (said["client"], said["user"], said["hash"], said["size"], said["status"])
            assert told == (FAR, "ci", HASH, 6, 200) and said["time"]
        assert "hash" not in json.loads(no)


def told(server: Server, path: str, **fields: str) -> tuple[int, str | None]:
    """The status of a request, and the link to the listing in the answer."""
    with Connection(server.port) as connection:
        answer = connection.ask(message("GET", path, **fields))
    return answer.status, json.loads(answer.body).get("links", {}).get("files")


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn that trusts a proxy on this machine."""
    with gunicorn(tmp_path_factory.mktemp("backend"), workers=1) as server:
        yield server


@pytest.mark.parametrize(
    "prefix, path, files",
    [
        ("/blobs", "/", "/blobs/files"),
        ("/blobs/", "/", "/blobs/files"),
        ("/a/b-c_d.e~f", "/", "/a/b-c_d.e~f/files"),
        ("/evil, /blobs", "/", "/blobs/files"),
        ("/blobs", "/blobs", "/blobs/files"),
        ("/blobs", "/blobs/", "/blobs/files"),
        ("", "/", "/files"),
        ("/", "/", "/files"),
        ("//evil.example", "/", "/files"),
        ("https://evil.example", "/", "/files"),
        ("/a/../b?c", "/", "/files"),
        ('/"><script>', "/", "/files"),
    ],
)
def test_a_prefix_told_by_a_proxy(server: Server, prefix: str, path: str, files: str) -> None:
    """URLs in answers have the prefix a trusted proxy sends, stripped from paths or not."""
    assert told(server, path, X_Forwarded_Prefix=prefix) == (200, files)


def test_a_prefix_told_by_a_client(tmp_path: Path) -> None:
    """A prefix or an address from an untrusted peer is ignored."""
    with gunicorn(tmp_path, "--forwarded-allow-ips", "192.0.2.1", workers=1) as server:
        assert told(server, "/", X_Forwarded_Prefix="/blobs") == (200, "/files")
        with Connection(server.port) as connection:
            fields = {"X_Forwarded_For": FAR, "X_Request_ID": "one"}
            connection.ask(message("GET", "/healthz", **fields))
        assert "client=127.0.0.1 " in server.await_log("id=one")[0].string


@pytest.mark.parametrize("name", ["/blobs", "/blobs/"])
def test_a_prefix_that_is_set(tmp_path: Path, name: str) -> None:
    """SCRIPT_NAME sets the prefix for a proxy that does not send it."""
    with gunicorn(tmp_path, workers=1, SCRIPT_NAME=name) as server:
        for path in ("/", "/blobs", "/blobs/"):
            assert told(server, path) == (200, "/blobs/files")
            require_page(over(server.port), path)
        for path in ("/files", "/blobs/files", "/healthz", "/blobs/healthz"):
            assert told(server, path)[0] == 200
        assert told(server, "/blobsx")[0] == 404
        with Connection(server.port) as connection:
            answer = connection.ask(message("POST", "/", BODY))
            assert json.loads(answer.body)["url"] == f"/blobs/{HASH}"


@pytest.mark.parametrize("stripped", [False, True])
def test_a_prefix_behind_nginx(server: Server, tmp_path: Path, stripped: bool) -> None:
    """With the nginx of docs/deployment.md clients cannot forge a prefix or an address."""
    text = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")
    recipe = re.search(r"```nginx\n(location /blobs/ \{.*?\n\}\n)```", text, re.DOTALL)
    assert recipe is not None
    locations = recipe[1].replace("store;", "store/;") if stripped else recipe[1]
    with nginx(tmp_path, server, direct=False, locations=locations) as proxy:
        assert told(proxy, "/blobs/") == (200, "/blobs/files")
        assert told(proxy, "/blobs/", X_Forwarded_Prefix="/evil") == (200, "/blobs/files")
        assert told(proxy, "/", X_Forwarded_Prefix="/evil") == (200, "/files")
        for path in ("/", "/blobs/"):
            require_page(over(proxy.port), path)
        with Connection(proxy.port) as connection:
            fields = {"X_Forwarded_For": FAR, "X_Request_ID": f"through-{stripped}"}
            assert connection.ask(message("GET", "/blobs/healthz", **fields)).status == 200
        assert f"client={FAR} " in server.await_log(f"id=through-{stripped}")[0].string


def test_the_page_behind_a_prefix_that_nobody_tells(server: Server, tmp_path: Path) -> None:
    """The page works behind a proxy that removes a prefix and keeps it for itself."""
    locations = "location /blobs/ { proxy_pass http://wsgi_store/; }"
    with nginx(tmp_path, server, direct=False, locations=locations) as proxy:
        assert told(proxy, "/blobs/") == (200, "/files")
        # nginx passes on `%2F` as `/` here.
        require_page(over(proxy.port), "/blobs/", "a/b")
