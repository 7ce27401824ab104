"""Fixtures shared by the tests of stores on a local disk."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.kinds import KINDS, LocalKind


@pytest.fixture(name="kind", params=KINDS, ids=str)
def fixture_kind(request: pytest.FixtureRequest) -> LocalKind:
    """Each kind of store in turn."""
    kind: LocalKind = request.param
    return kind


@pytest.fixture(name="memory")
def fixture_memory() -> Iterator[Path]:
    """A directory in memory, for tests of many short rounds."""
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)
