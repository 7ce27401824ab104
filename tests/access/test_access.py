"""Tokens, links and tickets on a real server, and in its log."""

import base64
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.access import ALL, HELLO, KEY, line, soon
from tests.support.fuzzing import ANSWER, exchange
from tests.support.servers import DEPLOY, Server, gunicorn, refusal
from tests.support.wire import Connection, message
from wsgi_store.access.signing import Signer

# Long enough to be recognized in a log, even in part.
TOKEN = "tokenAAAAAAAAAAAAAAAAAAAA"
UNKNOWN = "unknownBBBBBBBBBBBBBBBBBB"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
OTHER_KEY = "another-key-as-long"


def start(directory: Path, *arguments: str, **env: str) -> Server:
    """A server with one token."""
    path = directory / "tokens"
    path.write_text(line(TOKEN, ALL, "alice"), encoding="ascii")
    keys = {"WSGI_STORE_TOKENS": str(path), "WSGI_STORE_SIGNING_KEYS": f"{OTHER_KEY},{KEY}"}
    return gunicorn(directory, *arguments, workers=2, **{**keys, **env})


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that holds one blob."""
    with start(tmp_path_factory.mktemp("access")) as server:
        assert status(server, message("POST", "/", b"hello", **AUTHORIZED)) == 200
        yield server


def status(server: Server, request: bytes) -> int:
    """The status of a request, sent on its own connection."""
    answer = ANSWER.match(exchange(server, [request]))
    assert answer is not None
    return int(answer[1])


def secrets_sent() -> dict[bytes, str]:
    """Requests with a secret in every place and form, each with its secret."""
    basic = base64.b64encode(f"alice:{TOKEN}".encode()).decode()
    wrong = base64.b64encode(f"alice:{UNKNOWN}".encode()).decode()
    link = Signer([KEY]).link(HELLO, soon())
    ticket = Signer([KEY]).ticket(soon())
    fields = {
        f"Authorization: Bearer {TOKEN}": TOKEN,
        f"Authorization: Bearer {UNKNOWN}": UNKNOWN,
        f"Authorization: Bearer {TOKEN}\x00": TOKEN,
        f"Authorization: Bearer \x7f{TOKEN}\x1b[31m": TOKEN,
        f"Authorization: Bearer {TOKEN}\r\n folded": TOKEN,
        f"Authorization : Bearer {TOKEN}": TOKEN,
        f"Authorization Bearer {TOKEN}": TOKEN,
        f"Authorization Bearer {TOKEN}: x": TOKEN,
        f"Authorization: Bearer\n{TOKEN}": TOKEN,
        f"Authorization: Bearer {TOKEN}{'x' * 9000}": TOKEN,
        f"{TOKEN}": TOKEN,
        f"Expect: {TOKEN}": TOKEN,
        f"Content-Length: {TOKEN}": TOKEN,
        f"Transfer-Encoding: {TOKEN}": TOKEN,
        f"Authorization: Basic {basic}": basic,
        f"Authorization: Basic {wrong}": wrong,
        f"Authorization: Basic {basic}\x01": basic,
        f"Authorization: Basic {basic}!": basic,
        f"Authorization: Digest {TOKEN}": TOKEN,
    }
    sent = {
        f"GET /{HELLO} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode("latin-1"): secret
        for field, secret in fields.items()
    }
    targets = {
        f"/{HELLO}?link={link}": link,
        f"/{HELLO}?link={link}x": link,
        f"/{HELLO}?a=b&link={link}": link,
        f"/{HELLO}?link={link} HTTP/1.1 x": link,
        f"/{HELLO}?link={link}\xff": link,
        f"/{HELLO}?link={link}{'x' * 9000}": link,
        f"http://[::1/?link={link}": link,
        f"/{'0' * 64}?link={link}": link,
    }
    sent |= {
        f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"): secret
        for target, secret in targets.items()
    }
    head = f"GET /{HELLO}?link={link} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n"
    sent |= {head.encode(): TOKEN, head[:-2].encode(): link, head[:60].encode(): link}
    sent |= {
        message("POST", f"/?ticket={ticket}", b"one"): ticket,
        message("POST", f"/?ticket={ticket}", b"two"): ticket,
        message("POST", f"/?ticket={ticket[:-4]}", b"two"): ticket[:-4],
        message("POST", f"/?ticket={ticket}", Content_Length=9) + b"short": ticket,
        message("POST", f"/?ticket={ticket}", Transfer_Encoding="chunked") + b"zz\r\n": ticket,
    }
    return sent


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_logged(tmp_path: Path, form: str) -> None:
    """No token, link or ticket, valid, unknown or malformed, is logged at any level."""
    levels = {"WSGI_STORE_LOG_LEVEL": "debug", "WSGI_STORE_LOG_FORMAT": form}
    with start(tmp_path, **levels) as server:
        assert status(server, message("POST", "/", b"hello", **AUTHORIZED)) == 200
        sent = secrets_sent()
        seen = []
        for request in sent:
            seen += [int(status) for status, _ in ANSWER.findall(exchange(server, [request]))]
        assert {200, 400, 401, 403, 414, 417, 431} <= set(seen), seen
        # Once this request is logged, so are all before it.
        assert status(server, message("GET", "/last")) == 404
        server.await_log("GET /last 404")
        text = server.text()
        for secret in [*sent.values(), KEY, OTHER_KEY]:
            # Half a secret must not be logged either.
            half = len(secret) // 2
            for part in (secret[: max(half, 12)], secret[-max(half, 12) :]):
                assert part not in text, next(entry for entry in text.splitlines() if part in entry)
        assert "\x1b" not in text and "\x7f" not in text


def test_scopes_over_the_wire(server: Server) -> None:
    """A token opens the routes of its scopes; without one the 401 names the schemes."""
    assert status(server, message("GET", f"/{HELLO}", **AUTHORIZED)) == 200
    answer = exchange(server, [message("GET", f"/{HELLO}")])
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'WWW-Authenticate: Bearer realm="wsgi_store"\r\n' in answer
    assert b'"code": "unauthenticated"' in answer
    assert status(server, message("GET", "/healthz")) == 200


def test_tokens_change_while_running(tmp_path: Path) -> None:
    """Every worker accepts an added token, and rejects a removed one, at once."""
    with start(tmp_path) as server:
        path = tmp_path / "tokens"
        new = {"Authorization": f"Bearer {UNKNOWN}"}
        for _ in range(3):
            # The file is replaced, as editors do, and then overwritten.
            (tmp_path / "other").write_text(line(UNKNOWN, "list"), encoding="ascii")
            os.replace(tmp_path / "other", path)
            for _ in range(8):
                assert status(server, message("GET", "/files", **new)) == 200
                assert status(server, message("GET", "/files", **AUTHORIZED)) == 401
            path.write_text(line(TOKEN, ALL), encoding="ascii")
            for _ in range(8):
                assert status(server, message("GET", "/files", **new)) == 401
                assert status(server, message("GET", "/files", **AUTHORIZED)) == 200


def test_link(server: Server) -> None:
    """A link signed with any of the server's keys gives everybody one blob until it expires."""
    expires = int(time.time()) + 2
    for key in (KEY, OTHER_KEY):
        link = Signer([key]).link(HELLO, expires, "a.txt")
        with Connection(server.port) as connection:
            answer = connection.ask(message("GET", f"/{HELLO}/a.txt?link={link}"))
            assert (answer.status, answer.body) == (200, b"hello")
            assert answer.fields["cache-control"].startswith("private,")
            assert connection.ask(message("GET", f"/{HELLO}/b.txt?link={link}")).status == 403
            assert connection.ask(message("DELETE", f"/{HELLO}?link={link}")).status == 403
    assert status(server, message("GET", f"/{HELLO}?link={Signer(['x' * 20]).link(HELLO, expires)}")) == 403
    link = Signer([KEY]).link(HELLO, expires)
    while time.time() < expires:
        assert status(server, message("GET", f"/{HELLO}?link={link}")) in (200, 403)
    assert status(server, message("GET", f"/{HELLO}?link={link}")) == 403


def test_a_ticket_is_raced(server: Server) -> None:
    """Of sixteen simultaneous uploads with one ticket exactly one is stored, across workers."""
    before = server.blobs()
    for race in range(5):
        ticket = Signer([KEY]).ticket(soon())
        with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
            connections = [stack.enter_context(Connection(server.port)) for _ in range(16)]
            for number, connection in enumerate(connections):
                # All but the last byte, so that all uploads end together.
                connection.send(message("POST", f"/?ticket={ticket}", b"%d of %d." % (number, race))[:-1])
            statuses = list(pool.map(lambda connection: connection.ask(b".").status, connections))
        assert sorted(statuses) == [200] + [403] * 15
        after = server.blobs()
        assert len(after - before) == 1
        before = after


@pytest.mark.parametrize(
    "address, tokens, warned", [("0.0.0.0", "", 1), ("127.0.0.1", "", 0), ("0.0.0.0", "tokens", 0)]
)
def test_a_warning_when_all_may_do_all(tmp_path: Path, address: str, tokens: str, warned: int) -> None:
    """A server without tokens on a public address logs a warning at start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "tokens").write_text(line(TOKEN, ALL), encoding="ascii")
    env = {"WSGI_STORE_TOKENS": str(tmp_path / tokens)} if tokens else {}
    with gunicorn(tmp_path, "--bind", f"{address}:{port}", **env) as server:
        server.await_log("Booting worker")
        warnings = server.logged(r"WARNING.*WSGI_STORE_TOKENS")
        assert len(warnings) == warned, server.text()


@pytest.mark.parametrize("keys", ["tooshort-secret", "good-and-long-secret, bad-secret", ","])
def test_a_bad_key_is_not_printed(tmp_path: Path, keys: str) -> None:
    """The message about a bad key is one line without the key."""
    (tmp_path / "tokens").write_text("", encoding="ascii")
    path = str(DEPLOY / "gunicorn.conf.py")
    command = ["gunicorn", "-c", path, "--bind", "127.0.0.1:0"]
    env = {"WSGI_STORE_TOKENS": str(tmp_path / "tokens"), "WSGI_STORE_SIGNING_KEYS": keys}
    code, lines = refusal(command, tmp_path / "store", **env)
    assert code != 0
    assert re.match("wsgi-store: WSGI_STORE_SIGNING_KEYS: ", lines[0])
    assert len(lines) == 1
    assert "secret" not in lines[0]


def test_json_lines_are_json(tmp_path: Path) -> None:
    """Every line of a JSON log is valid JSON and names the user, whatever the request."""
    with start(tmp_path, WSGI_STORE_LOG_FORMAT="json") as server:
        for request in secrets_sent():
            exchange(server, [request])
        entries = [json.loads(entry) for entry in server.text().splitlines() if entry.startswith("{")]
        assert {"alice", "link", "ticket", None} <= {
            entry.get("user") for entry in entries if "path" in entry
        }
