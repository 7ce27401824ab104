"""What tests of servers share."""

from collections.abc import Iterator

import pytest

from tests.support.fuzzing import patient
from tests.support.servers import Server


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a file, which gives slow clients more time."""
    yield from patient(tmp_path_factory.mktemp("patient"))
