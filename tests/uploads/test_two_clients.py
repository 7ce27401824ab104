"""Two clients that send the same file do not disturb each other.

`python -m tests.uploads.test_two_clients SIZE RATE ROUNDS` measures it: files of SIZE MiB, through a line of
RATE MiB a second (0: none).
"""

import base64
import hashlib
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import TusJs
from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn
from tests.support.wire import Connection, message

pytestmark = pytest.mark.clients
MIB = 1 << 20
# Milliseconds between two attempts of a client, which never gives up.
DELAY = 200
WAYS = ("url", "digest")


def options(server: Server, address: str, way: str, path: Path) -> dict[str, Any]:
    """What both clients know: the URL of one upload, or the digest of the file."""
    if way == "digest":
        digest = base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        return {"endpoint": f"{address}/uploads", "headers": {"Repr-Digest": f"sha-256=:{digest}:"}}
    fields = {"Tus_Resumable": "1.0.0", "Upload_Length": path.stat().st_size}
    with Connection(server.port) as connection:
        answer = connection.ask(message("POST", "/uploads", b"", **fields))
    return {"uploadUrl": address + answer.fields["location"]}


def seconds(  # pylint: disable=too-many-arguments
    server: Server, directory: Path, size: int, rate: float, *, way: str, clients: int
) -> float:
    """How long clients need that send the same new file at once, until the last one has succeeded."""
    path = directory / "file"
    path.write_bytes(os.urandom(MIB) * (size // MIB))
    with ExitStack() as stack:
        address = f"http://127.0.0.1:{server.port}"
        if rate:
            address = stack.enter_context(Relay(server.port, rate)).url
        job = {"options": options(server, address, way, path), "patience": 100_000, "delay": DELAY}
        begin = time.monotonic()
        several = [stack.enter_context(TusJs(5, path, **job)) for _ in range(clients)]
        for client in several:
            assert client.end()["event"] == "success", client.events
        return time.monotonic() - begin


@pytest.mark.parametrize("way", WAYS)
def test_two_clients(tmp_path: Path, way: str) -> None:
    """They end in at most 1.5 times the time of one, on a line that both share, with one blob."""
    with gunicorn(tmp_path) as server:
        one = seconds(server, tmp_path, 64 * MIB, 16 * MIB, way=way, clients=1)
        two = seconds(server, tmp_path, 64 * MIB, 16 * MIB, way=way, clients=2)
        assert len(server.blobs()) == 2
    assert two <= 1.5 * one, (one, two)


def main(size: int, rate: float, rounds: int) -> None:
    """Print the medians for one client and for two."""
    with tempfile.TemporaryDirectory() as name, gunicorn(Path(name)) as server:
        for way in WAYS:
            pairs = [
                [
                    seconds(server, Path(name), size * MIB, rate * MIB, way=way, clients=count)
                    for count in (1, 2)
                ]
                for _ in range(rounds)
            ]
            one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{way}: one {one:.2f} s, two {two:.2f} s, {two / one:.2f} times")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
