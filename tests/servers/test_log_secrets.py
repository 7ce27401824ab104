"""Links, tickets and tokens reach no log of the service, uWSGI or nginx, whatever fails."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.access import KEY, bearer, line
from tests.support.servers import Server, gunicorn, nginx, uwsgi
from tests.support.wire import Connection, message
from wsgi_store.access.signing import Signer

DATA = b"hello\n" * 20_000
# Sent in every part of a request that may hold a secret.
TOKEN = "t0ken-of-somebody"


def secrets(hash_: str) -> tuple[str, str]:
    """A link and a ticket."""
    signer = Signer([KEY])
    return signer.link(hash_, time.time() + 600), signer.ticket(time.time() + 600)


def trouble(port: int, hash_: str) -> Iterator[str]:
    """Use and misuse links, tickets and tokens; yield the secrets that were sent."""
    link, ticket = secrets(hash_)
    guessed = f"{link[:-8]}aaaaaaaa"
    yield from (link, ticket, guessed, TOKEN)

    yield from signed_by(port, hash_)

    def ask(head: bytes, *more: bytes, cut: bool = False) -> None:
        with suppress(OSError, AssertionError), Connection(port) as connection:
            connection.send(head, *more)
            if cut:
                connection.reset()
            else:
                connection.socket.recv(1 << 16)

    ask(message("GET", f"/{hash_}?link={link}"))
    ask(message("GET", f"/{hash_}?link={link}"), cut=True)
    ask(message("GET", f"/{hash_}?link={guessed}"))
    ask(message("GET", f"http://{TOKEN}:{TOKEN}@example.org/{hash_}?link={link}"))
    ask(message("GET", f"/{hash_}", Referer=f"http://example.org/{hash_}?link={link}", **bearer(TOKEN)))
    ask(message("GET", "/", Cookie=TOKEN, User_Agent=TOKEN, Authorization=f"Basic {TOKEN}"))
    ask(message("GET", f"/{hash_}?link={link}{'x' * 40_000}"))
    ask(message("GET", f"/?link={link}", Transfer_Encoding=TOKEN))
    ask(message("GET", f"/?link={link}", Content_Length=TOKEN))
    ask(f"GET /{hash_}?link={link} HTTP/9.x\r\nHost: {TOKEN}/\r\n\r\n".encode())
    ask(f"GET /{hash_}?link={link} HTTP/1.1\r\nHost: x\r\n{TOKEN}\r\n\r\n".encode())
    ask(f"GET /{hash_}?link={link} HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n".encode())
    ask(message("POST", f"/?ticket={ticket}", Content_Length=100_000), DATA[:1000], cut=True)
    ask(message("POST", f"/?ticket={ticket}", Transfer_Encoding="chunked"), b"5\r\nab", cut=True)
    ask(message("POST", f"/?ticket={ticket}", Transfer_Encoding="chunked"), b"zz\r\nab\r\n")
    ask(message("POST", f"/?ticket={ticket}", DATA))
    ask(message("POST", f"/?ticket={ticket}", DATA))


def signed_by(port: int, hash_: str) -> Iterator[str]:
    """Let the service sign a link and a ticket; use them, and yield them if it answered."""
    for members, name in [({"hash": hash_}, "link"), ({"ticket": True}, "ticket")]:
        body = json.dumps(members).encode()
        fields = {"Content_Type": "application/json", **bearer("all")}
        with suppress(OSError, KeyError, ValueError), Connection(port) as connection:
            told = json.loads(connection.ask(message("POST", "/links", body, **fields)).body)
            yield told[name]
            if name == "link":
                # Without a token, and for nothing else.
                assert connection.ask(message("GET", told["url"])).body == DATA
                assert connection.ask(message("GET", f"/files?link={told[name]}")).status == 403
            else:
                statuses = [connection.ask(message("POST", told["url"], DATA)).status for _ in range(2)]
                assert statuses == [200, 403]
                assert connection.ask(message("GET", told["url"])).status == 403


def written(directory: Path) -> dict[str, str]:
    """The contents of the files beside the store."""
    beside = [path for path in directory.iterdir() if path.is_file() and path.name != "tokens"]
    return {path.name: path.read_text("utf-8", "replace") for path in beside}


@pytest.mark.parametrize("name", ["gunicorn", "uwsgi", "nginx", "nginx with public reading"])
def test_no_log_has_secrets(tmp_path: Path, name: str) -> None:
    """No log has a secret, even after the backend was killed; nginx logs the time and the id."""
    (tmp_path / "tokens").write_text(line("all", "read,write,link"), encoding="ascii")
    (tmp_path / "tokens").chmod(0o600)
    settings = {
        "WSGI_STORE_TOKENS": str(tmp_path / "tokens"),
        "WSGI_STORE_SIGNING_KEYS": KEY,
        "WSGI_STORE_LOG_LEVEL": "debug",
        "WSGI_STORE_SENDFILE": "x-accel" if name == "nginx" else "off",
    }
    with ExitStack() as stack:
        server: Server = stack.enter_context((uwsgi if name == "uwsgi" else gunicorn)(tmp_path, **settings))
        server.expected = [".*"]
        front = server
        if name.startswith("nginx"):
            front = stack.enter_context(nginx(tmp_path, server, direct=name != "nginx"))
            front.expected = [".*"]
        with Connection(front.port) as connection:
            upload = message("POST", "/", DATA, X_Request_ID="of-the-upload", **bearer("all"))
            hash_ = json.loads(connection.ask(upload).body)["hash"]
        sent = set(trouble(front.port, hash_))
        assert len(sent) == 6
        with Connection(front.port) as connection:
            connection.ask(message("GET", "/healthz", X_Request_ID="the-last-one"))
        server.await_log("the-last-one")
        if front is not server:
            server.kill()
            sent |= set(trouble(front.port, hash_))
            stack.pop_all()
            front.stop()
    texts = written(tmp_path)
    assert any("of-the-upload" in text for text in texts.values())
    for secret in sent:
        assert not [where for where, text in texts.items() if secret in text or secret[8:40] in text]
    if front is not server:
        first = texts["wsgi-store.access.log"].splitlines()[1]
        assert first.split()[0].startswith("20") and first.endswith(" id=of-the-upload")
        assert " 502 " in texts["wsgi-store.access.log"]
