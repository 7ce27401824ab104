"""`python -m benchmarks.fill DIRECTORY COUNT`: write the blobs of a store directly to disk."""

import hashlib
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability
from wsgi_store.store.open import open_store


def fill(root: Path, count: int) -> None:
    """Create a sha256 store with a blob for each number below `count`: its decimal digits."""
    open_store(str(root), Algorithm.SHA256, Durability.NONE)
    for number in range(256):
        (root / f"{number:02x}").mkdir(exist_ok=True)
    processes = os.cpu_count() or 1
    with ProcessPoolExecutor(processes) as pool:
        parts = [pool.submit(_part, root, range(first, count, processes)) for first in range(processes)]
        for part in parts:
            part.result()


def digest(number: int) -> str:
    """Return the hash of the blob that holds a number."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def _part(root: Path, numbers: range) -> None:
    for number in numbers:
        name = digest(number)
        fd = os.open(f"{root}/{name[:2]}/{name}", os.O_CREAT | os.O_WRONLY, 0o444)
        os.write(fd, str(number).encode())
        os.close(fd)


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
