"""Downloads that the server redirects elsewhere."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import Peer, hurried, reply, saying
from tests.support.servers import PROJECT
from wsgi_store.client.redirects import Network, follow, network
from wsgi_store.digest import Algorithm

HALF = SIZE // 2


def test_a_download_that_is_sent_elsewhere(tmp_path: Path) -> None:
    """A redirected download follows Location without sending the token, and is verified as usual."""
    with saying(reply(DATA)) as elsewhere:
        there = reply(b"", "307 Temporary Redirect", Location=f"{elsewhere.url}/a/b?signed=1")
        with saying(there) as peer, hurried(peer.url, "token") as client:
            client.get(HASH, tmp_path / "file")
        (head,) = elsewhere.heads
        assert head.startswith("GET /a/b?signed=1 HTTP/1.1\r\n")
        assert f"\r\nHost: 127.0.0.1:{elsewhere.port}\r\n" in head
        assert "authorization" not in head.lower()
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    "location",
    ["{}/x?signed=1", "http://127.0.0.1:1/x?signed=1", "ftp://127.0.0.1/x", "/x?signed=1", "http://[", ""],
)
def test_a_download_that_is_sent_astray(location: str) -> None:
    """If the redirection fails, the client asks the server again."""
    with saying(reply(b"expired", "403 Forbidden")) as elsewhere:
        there = reply(b"", "307 Temporary Redirect", Location=location.format(elsewhere.url))
        with saying(there, reply(DATA)) as peer, hurried(peer.url, "token", retries=0) as client:
            with client.open(HASH) as download:
                assert download.read() == DATA
            first, second = peer.seen("GET")
            assert "If-Match" not in first
            assert f'If-Match: "{HASH}"' in second and "Bearer token" in second


def test_a_download_that_is_sent_from_tls_to_none() -> None:
    """A redirection from https to http is not followed."""
    with saying(reply(DATA)) as elsewhere:
        assert follow(f"{elsewhere.url}/x", "https", "127.0.0.1", "", {}) is None
        assert not elsewhere.heads


def test_a_redirection_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy, redirections are not followed, because the proxy resolves host names itself."""
    with saying(reply(b"", "307 Temporary Redirect", Location="http://10.0.0.1/x"), reply(DATA)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with hurried("http://store.example.org") as client:
            client._kept._known = (Algorithm.SHA256,)  # pylint: disable=protected-access
            with client.open(HASH) as download:
                assert download.read() == DATA
        assert [head.split()[1] for head in proxy.heads] == [f"http://store.example.org/{HASH}"] * 2


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", Network.PUBLIC),
        ("2001:4860:4860::8888", Network.PUBLIC),
        ("10.1.2.3", Network.PRIVATE),
        ("100.64.0.1", Network.PRIVATE),
        ("fd00::1", Network.PRIVATE),
        ("fec0::1", Network.PRIVATE),
        ("169.254.169.254", Network.LINK),
        ("fe80::1%lo", Network.LINK),
        ("127.8.8.8", Network.LOOPBACK),
        ("::1", Network.LOOPBACK),
        ("0.0.0.0", Network.LOOPBACK),
        ("::", Network.LOOPBACK),
        ("::ffff:127.0.0.1", Network.LOOPBACK),
        ("::ffff:169.254.169.254", Network.LINK),
        ("::10.0.0.1", Network.PRIVATE),
        ("64:ff9b::7f00:1", Network.LOOPBACK),
        ("2002:a00:1::", Network.PRIVATE),
        ("224.0.0.1", None),
        ("255.255.255.255", None),
        ("ff02::1", None),
    ],
)
def test_networks(address: str, kind: Network | None) -> None:
    """Every notation of an address is assigned to the right network."""
    assert network(address) is kind


def redirected(server: str, location: str, elsewhere: Peer) -> bool:
    """Tell whether the client follows a redirection; it must get the blob in either case."""
    before = len(elsewhere.heads)
    there = reply(b"", "307 Temporary Redirect", Location=location)
    with saying(there, reply(DATA), host=server) as peer, hurried(peer.url, "token") as client:
        with client.open(HASH) as download:
            assert download.read() == DATA
    assert not any("token" in head for head in elsewhere.heads)
    return len(elsewhere.heads) > before


def in_a_network_of_its_own() -> None:
    """Try redirections between all kinds of network; run in a network namespace with local addresses."""
    addresses = ["8.8.8.8", "10.0.0.1", "169.254.1.1", "127.0.0.1"]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ["8.8.4.4", *addresses[:-1]]:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    allowed = {"8.8.8.8": "8", "10.0.0.1": "8 10", "169.254.1.1": "8 10 169", "127.0.0.1": "8 10 127"}
    for target in addresses:
        with saying(reply(DATA), host=target) as elsewhere:
            for server, kinds in allowed.items():
                expected = target.partition(".")[0] in kinds.split()
                assert redirected(server, f"{elsewhere.url}/x", elsewhere) is expected, (server, target)
            if target == "127.0.0.1":
                for other in ("localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"):
                    assert not redirected("8.8.8.8", f"http://{other}:{elsewhere.port}/x", elsewhere), other
    rebind()


def rebind() -> None:
    """Make a host name public at the first lookup and local from then on."""
    lookup, found = socket.getaddrinfo, iter(["8.8.4.4", *["127.0.0.1"] * 9])

    def look_up(host: str, *arguments: object, **options: object) -> object:
        host = next(found) if host == "rebound.example" else host
        return lookup(host, *arguments, **options)  # type: ignore[arg-type]

    socket.getaddrinfo = look_up  # type: ignore[assignment]
    with saying(reply(b"secret"), host="127.0.0.1") as near:
        assert not redirected("8.8.8.8", f"http://rebound.example:{near.port}/x", near)
        assert next(found) == "127.0.0.1"
    # The address of the server counts, not a later lookup of its name.
    found = iter(["8.8.8.8"] * 3 + ["127.0.0.1"] * 9)
    with saying(reply(b"secret")) as near:
        there = reply(b"", "307 Temporary Redirect", Location=f"{near.url}/x")
        with saying(there, reply(DATA), host="8.8.8.8") as peer:
            with hurried(f"http://rebound.example:{peer.port}") as client, client.open(HASH) as download:
                assert download.read() == DATA
        assert not near.heads


def test_no_nearer_than_the_server_is() -> None:
    """A redirection never leads to a network nearer to the client than the server's own."""
    code = "from tests.client import test_redirects as here; here.in_a_network_of_its_own()"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_download_that_is_sent_elsewhere_and_cut(tmp_path: Path) -> None:
    """A redirected download that breaks off resumes from the server."""
    rest = reply(DATA[HALF:], "206 Partial Content", Content_Range=f"bytes {HALF}-{SIZE - 1}/{SIZE}")
    with saying(reply(DATA)[: -(SIZE - HALF)]) as elsewhere:
        there = reply(b"", "307 Temporary Redirect", Location=f"{elsewhere.url}/x")
        with saying(there, rest) as peer, hurried(peer.url) as client:
            client.get(HASH, tmp_path / "file")
            assert f"Range: bytes={HALF}-" in peer.seen("GET")[1]
    assert (tmp_path / "file").read_bytes() == DATA
