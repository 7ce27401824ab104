"""Files that no store has yet."""

import hashlib
import os
from pathlib import Path

MIB = 1 << 20


def fresh(path: Path, size: int = 300_000) -> str:
    """Write random bytes into a file; returns their hash."""
    data = os.urandom(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def sparse(path: Path, size: int, step: int = MIB) -> None:
    """Write a large file quickly: a few random bytes in each step, and holes between them."""
    with path.open("wb") as file:
        for offset in range(0, size, step):
            file.seek(offset)
            file.write(os.urandom(64))
        file.truncate(size)
