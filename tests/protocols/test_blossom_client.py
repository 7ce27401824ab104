"""Clients of Blossom in use against this service: blossom-client-sdk, with nostr-tools to sign."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from tests.support.node import node
from tests.support.nostr import MINE, OTHERS, public
from tests.support.servers import BLOSSOM, Server, gunicorn

pytestmark = pytest.mark.clients
LARGE = 64 << 20


@pytest.fixture(name="server", params=["public", "private"], scope="module")
def fixture_server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """A service that knows one key which may do everything, and one that may read."""
    directory = tmp_path_factory.mktemp("blossom")
    tokens = directory / "tokens"
    tokens.write_text(f"me read,write,delete nostr:{public(MINE)}\nother read nostr:{public(OTHERS)}\n")
    reading = "yes" if request.param == "public" else "no"
    settings = {"WSGI_STORE_TOKENS": str(tokens), "WSGI_STORE_PUBLIC_READ": reading}
    with gunicorn(directory, BLOSSOM, WSGI_STORE_PROTOCOLS="blossom", **settings) as server:
        yield server


def client(server: Server, key: PrivateKey, *arguments: str) -> Any:
    """Run the client; returns its result, or the status and the reason of a refusal."""
    url = f"http://localhost:{server.port}"
    command = node("blossom.mjs", url, key.secret.hex(), *arguments)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    told = json.loads(done.stdout)
    return told["result"] if "result" in told else (told.get("status"), told["reason"])


@pytest.mark.parametrize("size", [0, 13, LARGE])
def test_a_file(server: Server, tmp_path: Path, size: int) -> None:
    """A file is uploaded, is told twice the same, comes back whole, and is deleted."""
    data = (b"hello, world\n" * (size // 13 + 1))[:size]
    (tmp_path / "there").write_bytes(data)
    hash_ = hashlib.sha256(data).hexdigest()
    first, again = (client(server, MINE, "upload", str(tmp_path / "there"), "image/png") for _ in range(2))
    assert first == {
        "url": f"http://localhost:{server.port}/{hash_}.png",
        "sha256": hash_,
        "size": size,
        "type": "image/png",
        "uploaded": first["uploaded"],
    }
    assert again["url"] == first["url"]
    assert client(server, OTHERS, "download", hash_, str(tmp_path / "back")) == {
        "type": "application/octet-stream"
    }
    assert (tmp_path / "back").read_bytes() == data
    assert client(server, MINE, "download", f"{hash_}.png", str(tmp_path / "back"))["type"] == "image/png"
    assert client(server, MINE, "delete", hash_) is True
    assert client(server, MINE, "download", hash_, str(tmp_path / "back"))[0] == 404


def test_what_is_refused(server: Server, tmp_path: Path) -> None:
    """The client gets the status and the reason of a refusal."""
    (tmp_path / "there").write_bytes(b"other")
    hash_ = hashlib.sha256(b"other").hexdigest()
    stranger = PrivateKey(b"\x03" * 32)
    for key, reason in (
        (OTHERS, "this needs the scope write"),
        (stranger, "this server does not know the key"),
    ):
        status, told = client(server, key, "upload", str(tmp_path / "there"), "text/plain")
        assert status == 403 and told.startswith(reason)
        assert client(server, key, "delete", hash_)[0] == 403
    assert client(server, MINE, "list") == (404, "nothing is served under this path")
    assert not server.blobs()
