"""Fixtures of the server tests."""

from collections.abc import Iterator

import pytest

from tests.support.fuzzing import patient
from tests.support.servers import Server


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a file, with a short idle timeout and a check for leaks at the end."""
    yield from patient(tmp_path_factory.mktemp("patient"))
