"""How many files a batch keeps open while it receives others."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.kinds import KINDS, LocalKind
from wsgi_store.digest import Algorithm
from wsgi_store.staging import Receipt, batch


def staged_files() -> int:
    """How many descriptors of staged files this process has."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the directory itself
            count += "/.staging/" in os.readlink(f"/proc/self/fd/{number}")
    return count


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("limit", "most"), [(256, 8), (1024, 16), (8192, 128), (20_000, 256)])
def test_few_files_wait_where_few_may_be_open(tmp_path: Path, kind: LocalKind, limit: int, most: int) -> None:
    """Clients that stand still cannot keep all files open that a process may have open."""
    staging = kind.staging(kind.open(tmp_path, Algorithm.MD5))
    seen = []

    def chunks(number: int) -> Iterator[bytes]:
        yield b"%d" % number
        seen.append(staged_files())

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        outcomes = staging.receive_all((chunks(number), ()) for number in range(2 * most))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    assert most <= max(seen) <= most + batch.SPARE + 1
