"""Acting as another user."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
HARDLINKS = Path("/proc/sys/fs/protected_hardlinks")


@contextmanager
def as_nobody(root: Path) -> Iterator[None]:
    """Act as a user who may write to the directories of a store, but owns none of its files."""
    if os.geteuid():
        pytest.skip("needs root")
    if HARDLINKS.read_text(encoding="ascii").strip() == "0":
        pytest.skip(f"{HARDLINKS} is 0")
    root.parent.chmod(0o755)
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            path.chmod(0o777)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
