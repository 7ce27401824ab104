"""A store as version 0.1.0 left it, and clients that use it while it is migrated."""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.support.histories import Operation, Outcome
from tests.support.load import Answer, Client, Ledger, hashed

OLD, NEW = "md5", "sha256"
# As version 0.1.0 wrote it.
MARKER = b'{"algorithm": "md5", "layout": "ab/abcdef"}\n'
LARGEST = 8 << 20
REFUSALS = {"store_unavailable", "storage_full", "overloaded"}


def old_blob(number: int) -> bytes:
    """The bytes of a blob of the old store; sizes are spread as those of real files."""
    choice = Random(f"old blob {number}")
    return choice.randbytes(min(LARGEST, int(choice.lognormvariate(9, 2))))


def make_old_store(root: Path, number: int) -> None:
    """Make a store of version 0.1.0 with so many blobs."""
    (root / ".staging").mkdir(parents=True)
    (root / "store.json").write_bytes(MARKER)
    for data in map(old_blob, range(number)):
        name = hashed(OLD, data)
        path = root / name[:2] / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o444)


@dataclass
class Migrated(Ledger):
    """What clients of a store under migration were told."""

    algorithms: tuple[str, ...] = (OLD, NEW)
    old: int = 0
    """How many blobs were there before."""
    listings: list[tuple[float, float, list[str]]] = field(default_factory=list)
    """When each listing began and ended, and the hashes in it."""

    def __post_init__(self) -> None:
        for number in range(self.old):
            data = old_blob(number)
            self.names[self.key(data)] = {hashed(algorithm, data) for algorithm in self.algorithms}
            self.note(self.key(data), Answer(0, 0, 200, b""), Outcome.CREATED)

    def unlisted(self) -> list[str]:
        """The blobs that were there during a whole listing that lacks them."""
        missing = []
        for begin, end, hashes in self.listings:
            listed = set(hashes)
            for key, history in self.histories.items():
                if not listed & self.names[key] and _was_there(history, begin, end):
                    missing.append(key)
        return missing


def _was_there(history: list[Operation], begin: float, end: float) -> bool:
    """Whether a blob was certainly there all the time from `begin` to `end`."""
    present = (Outcome.CREATED, Outcome.HELD)
    seen = [one.begin for one in history if one.outcome in present and one.end <= begin]
    unsure = (one for one in history if one.outcome not in present and one.begin <= end)
    return bool(seen) and all(one.end < max(seen) for one in unsure)


class Visitor(Client):
    """A client that asks for old blobs by old and new names, too, and lists the store."""

    _ledger: Migrated

    def _acts(self) -> dict[Callable[[], object], int]:
        return {**super()._acts(), self._read: 30, self._list: 1}

    def _choose(self) -> list[bytes]:
        if self._ledger.old and self._random.random() < 0.6:
            return [old_blob(self._random.randrange(self._ledger.old))]
        return super()._choose()

    def _list(self) -> None:
        begin, hashes, target = time.monotonic(), [], "/files?limit=500"
        while target:
            answer = self._ask("GET", target)
            if answer is None or answer.status != 200:
                return
            page = json.loads(answer.body)
            hashes += [blob["hash"] for blob in page["files"]]
            target = page["next"]
        self._ledger.listings.append((begin, time.monotonic(), hashes))
        # In the order of one algorithm, each once.
        assert hashes == sorted(set(hashes)) and len(set(map(len, hashes))) < 2

    def _note(self, hash_: str, answer: Answer, outcomes: Mapping[int | None, Outcome]) -> None:
        if answer.status in (503, 507) and json.loads(answer.body)["code"] in REFUSALS:
            self._ledger.counts[f"refused: {json.loads(answer.body)['detail']}"] += 1
            if None in outcomes:  # it may have been done all the same
                self._ledger.note(hash_, answer, outcomes[None])
            return
        super()._note(hash_, answer, outcomes)


def regular_files(root: Path) -> list[str]:
    """The paths of the regular files in the shards, relative to the root."""
    return sorted(
        str(path.relative_to(root))
        for path in root.glob("[0-9a-f][0-9a-f]/*")
        if not path.is_symlink() and path.is_file()
    )


def links(root: Path) -> list[str]:
    """The paths of the links in the shards that lead to a file, relative to the root."""
    return sorted(
        str(path.relative_to(root))
        for path in root.glob("[0-9a-f][0-9a-f]/*")
        if path.is_symlink() and os.path.exists(path)
    )
