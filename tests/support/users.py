"""Acting as another user."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.servers import PROJECT

NOBODY = 65534
HARDLINKS = Path("/proc/sys/fs/protected_hardlinks")


def require_entry() -> None:
    """Skip a test in which another user runs this checkout, if it lies where that user cannot enter."""
    closed = [path for path in (PROJECT, *PROJECT.parents) if not path.stat().st_mode & 0o001]
    if closed:
        pytest.skip(f"another user cannot enter {closed[0]}, in which this checkout lies")


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
