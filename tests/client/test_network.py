"""The client over TLS and through proxies."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.access import line
from tests.support.commands import install, run
from tests.support.exchanges import DATA, HASH
from tests.support.peers import reply, saying
from tests.support.servers import Server, gunicorn
from wsgi_store.client import Client
from wsgi_store.errors import ConfigError, Unauthenticated, Unreachable

BIG = bytes(50_000_000)
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(*arguments: str, directory: Path) -> None:
    """Run openssl."""
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture(name="ca", scope="module")
def fixture_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of a test CA; next to it, both.pem has the key and certificate of 127.0.0.1."""
    directory = tmp_path_factory.mktemp("ca")
    openssl(
        "req", "-x509", *EC, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", directory=directory
    )
    openssl("req", *EC, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=server", directory=directory)
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
    openssl("x509", "-req", "-in", "csr.pem", *signing, "-out", "cert.pem", directory=directory)
    both = (directory / "key.pem").read_bytes() + (directory / "cert.pem").read_bytes()
    (directory / "both.pem").write_bytes(both)
    return directory / "ca.pem"


@pytest.fixture(name="secure", scope="module")
def fixture_secure(tmp_path_factory: pytest.TempPathFactory, ca: Path) -> Iterator[Server]:
    """A service with TLS and a token."""
    directory = tmp_path_factory.mktemp("secure")
    (directory / "tokens").write_text(line("all", "read,write,delete,list"))
    certificate = ["--certfile", str(ca.with_name("both.pem"))]
    with gunicorn(directory, *certificate, WSGI_STORE_TOKENS=str(directory / "tokens")) as server:
        yield server


@pytest.fixture(name="open_service", scope="module")
def fixture_open(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service without tokens."""
    with gunicorn(tmp_path_factory.mktemp("open")) as server:
        yield server


def test_tls(secure: Server, ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE adds a trusted CA; a rejected upload raises the server's error over TLS, too."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    url = f"https://127.0.0.1:{secure.port}"
    with Client(url, "all") as client:
        assert client.put(DATA).url == f"{url}/{HASH}"
        client.get(HASH, tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == DATA
        client.delete(HASH)
        assert client.put(BIG).size == len(BIG)
    with Client(url, "other") as client, pytest.raises(Unauthenticated):
        client.put(BIG, hash_="0" * 64)


def test_a_certificate_that_is_not_trusted(secure: Server) -> None:
    """An untrusted certificate is reported as such, without retries."""
    with Client(f"https://127.0.0.1:{secure.port}", "all", retries=50) as client:
        with pytest.raises(Unreachable, match="its certificate is not trusted: ") as caught:
            client.put(DATA)
    assert "_ssl.c" not in str(caught.value)


def test_a_certificate_of_another_host(secure: Server, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trusted certificate for another host name is rejected."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with Client(f"https://localhost:{secure.port}", "all") as client:
        with pytest.raises(Unreachable, match="not trusted: .*localhost"):
            client.put(DATA)


def test_the_command(secure: Server, ca: Path, tmp_path: Path) -> None:
    """The command fails with one line for an untrusted certificate, and works with SSL_CERT_FILE."""
    program = install(tmp_path / "here")
    (program.parent / "file").write_bytes(DATA)
    arguments = ["put", "file", "--url", f"https://127.0.0.1:{secure.port}"]
    done = run(program, *arguments, WSGI_STORE_TOKEN="all")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (6, b"", 1)
    assert b"its certificate is not trusted: " in done.stderr
    done = run(program, *arguments, WSGI_STORE_TOKEN="all", SSL_CERT_FILE=str(ca))
    assert (done.returncode, done.stdout.split()[0]) == (0, HASH.encode())


def test_the_wrong_scheme(secure: Server, open_service: Server) -> None:
    """If the URL has the wrong scheme, the error names the right one at once, without retries."""
    for server, wrong, right in ((secure, "http", "https"), (open_service, "https", "http")):
        begin = time.monotonic()
        with Client(f"{wrong}://127.0.0.1:{server.port}", "all", retries=50) as client:
            with pytest.raises(Unreachable, match=f"the server speaks {right}, use {right}://"):
                client.put(DATA)
        # Fifty retries take minutes.
        assert time.monotonic() - begin < 10


def test_a_plain_answer_to_a_handshake() -> None:
    """A plain HTTP answer to a TLS handshake is recognized as HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(f"https://127.0.0.1:{listener.getsockname()[1]}", retries=50) as client:
            with pytest.raises(Unreachable, match="speaks http, "):
                client.put(DATA)
        thread.join()


def test_a_proxy(open_service: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go through HTTP_PROXY with its credentials, except to the hosts in NO_PROXY."""
    server = f"http://127.0.0.1:{open_service.port}"
    answer = b'{"hash": "%s", "size": %d, "created": true}' % (HASH.encode(), len(DATA))
    index = reply(b'{"algorithm": "sha256", "names": []}')
    with saying(index, reply(answer)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
        with Client("http://store.example.org/prefix") as client:
            assert client.put(DATA, hash_=HASH).url == f"http://store.example.org/prefix/{HASH}"
        (head,) = proxy.seen("PUT")
        assert head.startswith(f"PUT http://store.example.org/prefix/{HASH} HTTP/1.1\r\n")
        assert "\r\nHost: store.example.org\r\n" in head
        assert "\r\nproxy-authorization: Basic dXNlcjpwYXNz\r\n" in head
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with Client(server) as client:
            client.put(DATA)
            client.delete(HASH)
        assert len(proxy.heads) == 2


def test_tls_through_a_proxy(secure: Server, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY provides a tunnel, and sees no token."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    seen = []

    def tunnel(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", secure.port)) as server:
            seen.append(client.recv(1 << 16))
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pump, args=(server, client))
            back.start()
            pump(client, server)
            back.join()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                seen.append(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=tunnel, args=(listener,))
        thread.start()
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{listener.getsockname()[1]}")
        with Client(f"https://127.0.0.1:{secure.port}", "all") as client:
            client.put(DATA)
        thread.join()
    assert seen[0].startswith(f"CONNECT 127.0.0.1:{secure.port} HTTP/1.".encode())
    assert b"Bearer" not in b"".join(seen)


def test_a_password_that_no_field_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy password with characters outside Latin-1 is rejected without being shown."""
    monkeypatch.setenv("http_proxy", "http://user:%E2%82%ACsecret@127.0.0.1:1080")
    with pytest.raises(ConfigError, match="^http_proxy: user name and password: expected") as caught:
        Client("http://store.example.org")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["socks5://user:secret@127.0.0.1:1080", "http://user:secret@[::1:1080"])
def test_a_proxy_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """An unsupported or malformed proxy URL is rejected without showing the password."""
    monkeypatch.setenv("http_proxy", url)
    with pytest.raises(ConfigError, match="http_proxy: ") as caught:
        Client("http://store.example.org")
    assert "secret" not in str(caught.value)
