"""A process that works on a store, so that tests can watch or kill it.

    python tests/support/uploader.py ROOT DURABILITY [STEP ...]

A step is `add=TEXT`, `batch=TEXT,TEXT`, `remove=TEXT`, `quarantine=TEXT`, `cut=TEXT`, which truncates
the blob, or `slowly=TEXT`, an upload that pauses in the middle until standard input ends. Each finished
step is reported on standard output, in one write.
"""

import hashlib
import os
import sys
from collections.abc import Iterator

from wsgi_store.digest import Algorithm
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Durability
from wsgi_store.store.open import open_store


def tell(text: str) -> None:
    """Print what was done, for a test that waits for it."""
    os.write(1, f"{text}\n".encode())


def slowly(data: bytes) -> Iterator[bytes]:
    """Yield half of the bytes, and the rest when told to."""
    yield data[: len(data) // 2]
    tell("half")
    os.read(0, 1)
    yield data[len(data) // 2 :]


def main(root: str, durability: Durability, steps: list[str]) -> None:
    """Do the steps one after the other."""
    store = open_store(root, Algorithm.MD5, durability)
    staging = Staging(store, durability=durability)
    tell("opened")
    for step in steps:
        verb, _, text = step.partition("=")
        data = text.encode()
        digest = Algorithm.MD5.parse(hashlib.md5(data).hexdigest())
        if verb in ("remove", "quarantine"):
            getattr(store, verb)(digest)
        elif verb == "batch":
            outcomes = staging.receive_all(([one.encode()], ()) for one in text.split(","))
            assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes
        elif verb == "cut":
            path = os.path.join(root, str(store.local_path(digest)))
            os.chmod(path, 0o644)
            os.truncate(path, 1)
        else:
            staging.receive([data] if verb == "add" else slowly(data))
        tell(step)


if __name__ == "__main__":
    main(sys.argv[1], Durability(sys.argv[2]), sys.argv[3:])
