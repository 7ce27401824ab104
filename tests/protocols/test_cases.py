"""The cases of a protocol on this service, and on a server that others made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocols.table import LARGEST, PAGE, TUS, table
from tests.support.cases import Case, run
from tests.support.documents import with_table
from tests.support.servers import Server, gunicorn


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with a limit."""
    with gunicorn(tmp_path_factory.mktemp("service"), WSGI_STORE_MAX_SIZE=str(LARGEST)) as server:
        yield server


@pytest.mark.parametrize("case", TUS, ids=[case.says for case in TUS])
def test_tus(server: Server, case: Case) -> None:
    """The service does what tus asks for."""
    run(case, server.port)


@pytest.mark.clients
def test_the_table_is_what_was_seen(tmp_path: Path) -> None:
    """The page tells what each server does; if it does not, run `python -m tests.protocols.table`."""
    assert with_table(PAGE, table(tmp_path)) == PAGE.read_text(encoding="utf-8")
