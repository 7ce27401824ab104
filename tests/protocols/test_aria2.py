"""aria2 finds wrong bytes in its downloads from this service, and downloads only them again."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.access import KEY, line, soon
from tests.support.damaging import Line, damaged, flipped
from tests.support.relay import Relay, Way
from tests.support.servers import Server, gunicorn
from wsgi_store.access.signing import Signer
from wsgi_store.client import Client

pytestmark = pytest.mark.clients
MIB = 1 << 20
SIZE = 32 * MIB
DATA = Random(36).randbytes(SIZE)
HASH = hashlib.sha256(DATA).hexdigest()
METALINK = f"{HASH}.meta4"
# aria2c(1), exit status: the bytes have another hash.
REFUSED = 32
# Bytes of heads, of the Metalink, and of what aria2 does not read any more.
FEW = 16 << 10


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that has the blob, for those with a token or a link."""
    directory = tmp_path_factory.mktemp("aria2")
    (directory / "tokens").write_text(line("writing", "read,write"))
    settings = {"WSGI_STORE_TOKENS": str(directory / "tokens"), "WSGI_STORE_SIGNING_KEYS": KEY}
    with gunicorn(directory, WSGI_STORE_HASH="sha256", **settings) as server:
        with Client(f"http://127.0.0.1:{server.port}", "writing") as client:
            client.put(DATA)
        yield server


@pytest.fixture(name="far")
def fixture_far(server: Server) -> Iterator[tuple[Line, Relay]]:
    """A line that damages bytes, and one behind it that counts them."""
    with damaged(server.port) as (far, url), Relay(int(url.rpartition(":")[2]), way=Way.DOWN) as relay:
        yield far, relay


def aria2(directory: Path, url: str, *options: str, status: int = 0) -> str:
    """Download as aria2 does by default, and return what it printed."""
    command = ["aria2c", "--no-conf", "--enable-color=false", "--dir", str(directory)]
    command += ["--allow-overwrite=true", "--auto-file-renaming=false", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def signed(relay: Relay, path: str) -> str:
    """A URL with a signed link for the blob."""
    return f"{relay.url}/{path}?link={Signer([KEY]).link(HASH, soon())}"


# The connection on which aria2 finds the wrong piece is lost to it, so what follows is asked for again.
@pytest.mark.parametrize("at", [SIZE - 9, 20 * MIB + 9])
def test_damaged_on_the_way(far: tuple[Line, Relay], tmp_path: Path, at: int) -> None:
    """By a Metalink it finds the wrong piece while it downloads, and goes on from there."""
    bodies, relay = far
    bodies.damage = {0: at}
    aria2(tmp_path, signed(relay, METALINK))
    assert (tmp_path / HASH).read_bytes() == DATA
    assert bodies.bodies == [SIZE, SIZE - at // MIB * MIB]
    if at >= SIZE - MIB:
        assert SIZE + MIB <= relay.carried <= SIZE + MIB + FEW


def test_damaged_on_the_disk(far: tuple[Line, Relay], tmp_path: Path) -> None:
    """With -V it finds the wrong piece of a file that is there, and downloads that alone."""
    bodies, relay = far
    (tmp_path / HASH).write_bytes(flipped(DATA, 20 * MIB + 9))
    aria2(tmp_path, signed(relay, METALINK), "-V")
    assert (tmp_path / HASH).read_bytes() == DATA
    assert bodies.bodies == [MIB]
    assert MIB <= relay.carried <= MIB + FEW


def test_many_connections(far: tuple[Line, Relay], tmp_path: Path) -> None:
    """It also finds what one of several connections damaged."""
    bodies, relay = far
    bodies.damage = {1: 9}
    aria2(tmp_path, signed(relay, METALINK), "-x4", "-s4", "-k1M")
    assert (tmp_path / HASH).read_bytes() == DATA
    assert len(bodies.bodies) > 4


def test_the_digest(far: tuple[Line, Relay], tmp_path: Path) -> None:
    """Without a Metalink it compares the whole with `Digest`, and refuses wrong bytes."""
    bodies, relay = far
    bodies.damage = {0: 9}
    told = aria2(tmp_path, signed(relay, HASH), status=REFUSED)
    assert "Checksum error detected" in told
    (tmp_path / HASH).unlink()
    (tmp_path / f"{HASH}.aria2").unlink()
    told = aria2(tmp_path, signed(relay, HASH))
    assert "Verification finished successfully" in told
    assert (tmp_path / HASH).read_bytes() == DATA


def test_a_token(far: tuple[Line, Relay], tmp_path: Path) -> None:
    """A token as a header field is good for the Metalink and for the blob."""
    _, relay = far
    aria2(tmp_path, f"{relay.url}/{METALINK}", "--header=Authorization: Bearer writing")
    assert (tmp_path / HASH).read_bytes() == DATA
    aria2(tmp_path, f"{relay.url}/{METALINK}", status=24)
