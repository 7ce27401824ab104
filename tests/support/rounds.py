"""Rounds of a race on a store on a disk: acts at once, and what each of them saw of each blob."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.support.histories import Operation, Outcome, linearisable
from tests.support.kinds import content, digest_of
from tests.support.turns import Turns
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.abilities import Adopted, Hashed, Names
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.marker import NAME, Marker
from wsgi_store.store.open import open_store

ROUNDS = 1000
# Repeats or varies the orders of the calls.
SEED = os.environ.get("RACE_SEED", "0")
LATE = float("inf")
LINK = re.compile(r"\.\./([0-9a-f]{2})/(\1[0-9a-f]+)")
UNANSWERED = {"upload": Outcome.UPLOAD_UNANSWERED, "remove": Outcome.REMOVAL_UNANSWERED}


class Round:
    """A new store with this marker, the acts on it, and the history of each blob."""

    def __init__(
        self, directory: Path, number: int, marker: Marker, durability: Durability = Durability.NONE
    ) -> None:
        self.number = number
        self.durability = durability
        self.choice = Random(f"{SEED}-{number}")
        self.turns = Turns(self.choice)
        self.root = directory / str(number)
        self.histories: dict[bytes, list[Operation]] = {}
        (self.root / ".staging").mkdir(parents=True)
        (self.root / NAME).write_bytes(marker.text())

    def process(self) -> "Process":
        """A process that has read the marker as it is now."""
        return Process(self)

    def path(self, digest: Digest) -> Path:
        """Where a name lies."""
        return self.root / digest.hex[:2] / digest.hex

    def put_file(self, algorithm: Algorithm, data: bytes) -> Path:
        """Put a regular file under a name, as version 0.1.0, rsync or a crashed migration leave it."""
        path = self.path(digest_of(algorithm, data))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o444)
        return path

    def put_link(self, algorithm: Algorithm, data: bytes, to: Algorithm) -> Path:
        """Put a link under a name to a name by another algorithm."""
        path, target = self.path(digest_of(algorithm, data)), self.path(digest_of(to, data))
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(os.path.join("..", target.parent.name, target.name))
        return path

    def note(self, data: bytes, outcome: Outcome, begin: float = 0, end: float = 0) -> None:
        """Record an operation on a blob."""
        self.histories.setdefault(data, []).append(Operation(begin, end, outcome))

    def run(self, *acts: Callable[[], Any], killing: float = 0) -> list[Any]:
        """Run all acts at once; with this probability one of them is killed on the way."""
        kills = {}
        if self.choice.random() < killing:
            # Later ones are often past the last change of an act.
            kills[self.choice.randrange(len(acts))] = self.choice.randrange(1, 25)
        return self.turns.run(acts, kills)

    def settled(self, data: bytes, algorithms: Sequence[Algorithm]) -> bool:
        """Check that a blob is there by all of these names or by none; returns whether it is there."""
        process = self.process()
        held = {algorithm: process.holds(data, algorithm) for algorithm in algorithms}
        assert len(set(held.values())) == 1, f"round {self.number}: {held}"
        return held[algorithms[0]]

    def judge(self, data: bytes, algorithms: Sequence[Algorithm]) -> bool:
        """Check that what was seen of a blob can have happened in one order; returns whether it is there."""
        there = self.settled(data, algorithms)
        self.note(data, Outcome.HELD if there else Outcome.MISSING, LATE, LATE)
        history = self.histories[data]
        assert linearisable(history), f"round {self.number}: {sorted(history, key=lambda one: one.begin)}"
        return there

    def files(self, algorithm: Algorithm) -> set[Digest]:
        """The names by an algorithm under which there is a regular file."""
        return {
            digest
            for path, digest in self.tree()
            if digest.algorithm is algorithm and not path.is_symlink() and path.is_file()
        }

    def tree(self) -> Iterator[tuple[Path, Digest]]:
        """The files and links in the shards, each with the digest in its name."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")):
            for algorithm in Algorithm:
                if len(path.name) == 2 * algorithm.size:
                    yield path, algorithm.parse(path.name)
                    break

    def check_tree(self) -> None:
        """Check that each file has its digest, and each link that leads somewhere leads to such a file."""
        for path, digest in self.tree():
            if path.is_symlink():
                assert LINK.fullmatch(os.readlink(path)), f"round {self.number}: {path}"
            if path.exists():
                assert digest_of(digest.algorithm, path.read_bytes()) == digest, (
                    f"round {self.number}: {path}"
                )

    def end(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.root)


class Process:
    """What one process does, and its own memory of the marker."""

    def __init__(self, around: Round) -> None:
        self.round = around
        self.store: Store = open_store(str(around.root), None, around.durability)
        self.staging = Staging(self.store, durability=around.durability)
        assert isinstance(self.store, Names)
        self.names: Names = self.store

    def upload(self, data: bytes, under: Algorithm | None = None) -> Receipt:
        """Upload a blob, perhaps under a name."""

        def upload() -> tuple[Outcome, Receipt]:
            name = None if under is None else digest_of(under, data)
            receipt = self.staging.receive([data], expected=[name] if name else [], under=name)
            return Outcome.CREATED if receipt.created else Outcome.HELD, receipt

        receipt: Receipt = self._seen(data, "upload", upload)
        return receipt

    def upload_all(self, files: Sequence[bytes]) -> list[Receipt]:
        """Upload several different blobs in one batch."""
        begin = self.round.turns.tick()
        receipts: list[Receipt] = []
        try:
            for outcome in self.staging.receive_all(([data], ()) for data in files):
                assert isinstance(outcome, Receipt)
                receipts.append(outcome)
        finally:
            end = self.round.turns.tick()
            for number, data in enumerate(files):
                if not receipts:
                    seen = UNANSWERED["upload"]
                else:
                    seen = Outcome.CREATED if receipts[number].created else Outcome.HELD
                self.round.note(data, seen, begin, end)
        return receipts

    def remove(self, data: bytes, algorithm: Algorithm, *, certain: bool = True) -> bool:
        """Remove a blob by a name; returns whether it was there. See `read`."""

        def remove() -> tuple[Outcome | None, bool]:
            try:
                self.store.remove(digest_of(algorithm, data))
            except BlobNotFound:
                return Outcome.MISSING if certain else None, False
            return Outcome.REMOVED, True

        return bool(self._seen(data, "remove", remove))

    def read(self, data: bytes, algorithm: Algorithm, *, certain: bool = True) -> bool:
        """Read a blob by a name; returns whether it was there.

        Unless it is `certain` that the blob has that name, nothing follows from its absence.
        """

        def read() -> tuple[Outcome | None, bool]:
            there = self.holds(data, algorithm)
            return Outcome.HELD if there else Outcome.MISSING if certain else None, there

        return bool(self._seen(data, "read", read))

    def holds(self, data: bytes, algorithm: Algorithm) -> bool:
        """Read a blob by a name and check its bytes; nothing is recorded."""
        digest = digest_of(algorithm, data)
        try:
            assert content(self.store, digest) == data
            assert self.store.stat(digest).digest == digest
        except BlobNotFound:
            return False
        return True

    def sweep(self) -> None:
        """Remove the names that lead nowhere, as `collect` does."""
        list(self.names.sweep_names(remove=True))

    def adopt(self, algorithm: Algorithm) -> None:
        """Give the files under names by an algorithm their primary names, as `migrate` and `verify` do."""
        for blob in self.names.strays(algorithm):
            try:
                with closing(self.store.open(blob.digest)) as reader:
                    stamp, data = reader.stamp, reader.read()
            except BlobNotFound:
                continue
            if digest_of(algorithm, data) != blob.digest:
                with suppress(BlobNotFound):
                    self.store.quarantine(blob.digest)
                continue
            digests = {one: digest_of(one, data) for one in self.store.refresh()}
            (outcome,) = self.names.adopt([Hashed(blob.digest, stamp, digests)])
            assert outcome is not Adopted.UNLINKABLE

    def _seen(self, data: bytes, verb: str, act: Callable[[], tuple[Outcome | None, Any]]) -> Any:
        begin = self.round.turns.tick()
        try:
            outcome, result = act()
        except BaseException:
            # It was killed, or the round fails anyway.
            if verb in UNANSWERED:
                self.round.note(data, UNANSWERED[verb], begin, self.round.turns.tick())
            raise
        if outcome is not None:
            self.round.note(data, outcome, begin, self.round.turns.tick())
        return result


def race(directory: Path, markers: Sequence[Marker], one_round: Callable[[Round], object]) -> None:
    """Run a race on new stores with these markers in turn."""
    done = 0
    for number in range(ROUNDS):
        one = Round(directory, number, markers[number % len(markers)])
        one_round(one)
        one.check_tree()
        one.end()
        done += 1
    assert done == ROUNDS == 1000
