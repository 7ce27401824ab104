"""Servers killed with -9 at random moments under load lose and alter no acknowledged blob.

`make soak` does the same for longer: CRASH_KILLS is the number of kills for each test, and
CRASH_SEED repeats the choices of an earlier run (what the threads make of them differs).
"""

import contextlib
import http.client
import json
import os
import random
import secrets
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.crowds import running
from tests.support.fleet import TARGETS, Fleet
from tests.support.histories import Operation, Outcome, linearisable
from tests.support.interrupted import Interrupted
from tests.support.kinds import KINDS, LocalKind
from tests.support.load import Ledger
from tests.support.servers import Server
from tests.support.wire import Connection
from wsgi_store.digest import Algorithm
from wsgi_store.store.marker import Marker

pytestmark = pytest.mark.races
KILLS = int(os.environ.get("CRASH_KILLS", "4"))
CLIENTS = 6
# Seconds for which the servers keep uploads.
KEPT = 10
LATE = float("inf")
MARKERS = {
    "plain": Marker(Algorithm.SHA256),
    "names": Marker(Algorithm.SHA256, (Algorithm.MD5, Algorithm.SHA1)),
}


def clients(ledger: Ledger, seed: str) -> AbstractContextManager[None]:
    """Clients that run until the block ends."""
    return running(ledger.end, *(Interrupted(ledger, f"{seed}-{number}", KEPT) for number in range(CLIENTS)))


def listed(server: Server) -> set[str]:
    """The hashes of all blobs, from the listing."""
    found: set[str] = set()
    target = "/files?limit=1000"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
        while target:
            client.request("GET", target)
            page = json.load(client.getresponse())
            found |= {blob["hash"] for blob in page["files"]}
            target = page["next"]
    return found


def possible(history: list[Operation], there: bool) -> bool:
    """Whether a store can have given these answers and have or lack the blob in the end."""
    return linearisable([*history, Operation(LATE, LATE, Outcome.HELD if there else Outcome.MISSING)])


@pytest.mark.parametrize(("number", "kept"), [(1, "plain"), (2, "names")])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_kills_under_load(tmp_path: Path, kind: LocalKind, number: int, kept: str) -> None:
    """Kills lose no acknowledged blob, name or offset; a restart sweeps staged files and expired uploads."""
    seed = os.environ.get("CRASH_SEED") or secrets.token_hex(4)
    print(f"\n{number} x gunicorn, {kind}, {kept}, CRASH_SEED={seed}")
    choice = random.Random(seed)
    targets = [TARGETS[turn % len(TARGETS)] for turn in range(KILLS)]
    choice.shuffle(targets)
    with Fleet(tmp_path, kind, number, MARKERS[kept], KEPT) as fleet:
        ledger = Ledger([server.port for server in fleet.servers], fleet.algorithms)
        with clients(ledger, seed):
            for target in targets:
                ledger.await_answers(choice.randrange(100))
                ledger.end.wait(choice.random() / 20)
                fleet.kill(target, choice.randrange(number), choice)
                ledger.ports = [server.port for server in fleet.servers]
                fleet.names()
        with Connection(fleet.servers[0].port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
            fleet.servers[0].until_staged()
            fleet.end()
        left = fleet.staged()
        assert bool(left) is not kind.nameless
        fleet.start(0)
        assert not fleet.staged()
        fleet.counts["leftovers swept"] += len(left)
        fleet.servers[0].stop()
        fleet.counts["uploads left"] = len(fleet.uploads())
        time.sleep(KEPT)
        fleet.start(0)
        assert not fleet.uploads()
        blobs = listed(fleet.servers[0])
        # By all of its names or by none.
        assert fleet.names() == {name for key in blobs for name in ledger.names[key]}
        fleet.servers[0].stop()
    assert not ledger.trouble
    wrong = [key for key, history in ledger.histories.items() if not possible(history, key in blobs)]
    figures = {**fleet.counts, **ledger.counts, "blobs": len(blobs), "lost or back": len(wrong)}
    print("\n".join(f"{figure:8} {name}" for name, figure in sorted(figures.items())))
    assert not wrong
    assert not fleet.counts["altered"] + ledger.counts["altered"]
    shutil.rmtree(fleet.root)  # it may be large
