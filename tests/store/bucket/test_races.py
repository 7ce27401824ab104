"""Servers that use one blob in a bucket by different names at once, while it is migrated."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.support import ceph
from tests.support.histories import Operation, Outcome, linearisable
from tests.support.stops import MD5, MIGRATING, NAMED, OLD, SHA1, SHA256, Server
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable

pytestmark = pytest.mark.races

ROUNDS = int(os.environ.get("RACE_ROUNDS", "200"))
SEED = os.environ.get("RACE_SEED", "0")
NAMES = (SHA256, MD5, SHA1)
MARKERS = (NAMED, MIGRATING, OLD)


class Race:
    """A store, and the operations of all servers on one blob."""

    def __init__(self, root: Path, seed: str) -> None:
        self.root = root
        self.choice = Random(seed)
        self.data = seed.encode()
        self.history: list[Operation] = []

    def begin(self) -> None:
        """Make the store: without the blob, or with it under some of its keys."""
        server = Server(self.root)
        marker = self.choice.choice(MARKERS)
        server.make(marker)
        before = self.choice.choice(["nothing", "blob", "deleted", "stray", "both"])
        if before in ("blob", "deleted", "both"):
            self.upload(server)
        if before == "deleted":
            self.delete(server, marker.algorithm)
        if marker is MIGRATING and before in ("stray", "both"):
            server.put_stray(MD5, self.data)
            if before == "stray":
                self.note(time.monotonic(), Outcome.CREATED)

    def act(self, seed: str) -> None:
        """Do some operations as a server of its own, which has read the marker as it is now."""
        choice = Random(seed)
        server = Server(self.root)
        server.refresh()
        acts: list[Callable[[], object]] = [
            partial(self.upload, server),
            partial(self.delete, server, choice.choice(NAMES)),
            partial(self.read, server, choice.choice(NAMES)),
            server.adopt_all,
        ]
        for act in choice.choices(acts, [4, 4, 3, 2], k=3):
            with suppress(StoreUnavailable):
                act()

    def migrate(self) -> None:
        """Migrate the store, if it was not when the others began."""
        server = Server(self.root)
        for _ in range(20):
            # On a busy machine a lock can expire; then the command is run again.
            with suppress(StoreUnavailable):
                if server.refresh()[0] is MD5:
                    server.migrate()
                else:
                    server.adopt_all()
                return
        raise AssertionError("the migration kept failing")

    def upload(self, server: Server) -> None:
        """Upload the blob."""
        begin = time.monotonic()
        outcome = Outcome.UPLOAD_UNANSWERED
        with suppress(StoreUnavailable):
            outcome = Outcome.CREATED if server.upload(self.data) else Outcome.HELD
        self.note(begin, outcome)

    def delete(self, server: Server, name: Algorithm) -> None:
        """Delete the blob by a name."""
        begin = time.monotonic()
        try:
            there = server.delete(name, self.data)
        except StoreUnavailable:
            self.note(begin, Outcome.REMOVAL_UNANSWERED)
            return
        # A blob under an old key has no other name yet.
        if there or name is MD5:
            self.note(begin, Outcome.REMOVED if there else Outcome.MISSING)

    def read(self, server: Server, name: Algorithm) -> None:
        """Read the blob by a name."""
        begin = time.monotonic()
        there = server.holds(name, self.data)
        if there or name is MD5:
            self.note(begin, Outcome.HELD if there else Outcome.MISSING)

    def note(self, begin: float, outcome: Outcome) -> None:
        """Record an operation that ends now."""
        self.history.append(Operation(begin, time.monotonic(), outcome))


def test_servers_at_once(tmp_path: Path) -> None:
    """In each round the results are as if one operation came after another, by whichever names."""
    ceph.ensure()
    with ThreadPoolExecutor(4) as pool:
        for number in range(ROUNDS):
            seed = f"{SEED}-{number}"
            race = Race(tmp_path / str(number), seed)
            race.begin()
            others = [pool.submit(race.act, f"{seed}-{one}") for one in range(3)]
            others.append(pool.submit(race.migrate))
            for other in others:
                other.result()
            server = Server(race.root)
            server.refresh()
            race.migrate()
            server.refresh()
            there = {server.holds(name, race.data) for name in NAMES}
            told = f"round {seed}: {race.history}, {there}, {server.keys()}"
            assert len(there) == 1, told
            race.read(server, MD5)
            assert linearisable(race.history), told
            server.sweep()
            blobs = {key for key in server.keys() if key[0] not in ".s"}
            assert len(blobs) == there.pop(), told
