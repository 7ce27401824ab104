"""Fixtures shared by the tests of stores in a bucket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ceph
from tests.support.engines import Between, between
from tests.support.stops import NAMED, Server


@pytest.fixture(name="way", scope="module")
def fixture_way() -> Iterator[Between]:
    """The proxy of all tests of a file: a store at another address would make its slow clients anew."""
    with between(ceph.cluster().port) as way:
        yield way


@pytest.fixture(name="proxy")
def fixture_proxy(way: Between) -> Iterator[Between]:
    """A proxy in front of the object store that counts requests and can change answers."""
    yield way
    way.answer = lambda _: None
    way.seen.clear()


@pytest.fixture(name="others")
def fixture_others(tmp_path: Path) -> Server:
    """A server that is not stopped, on a store with further names."""
    ceph.ensure()
    others = Server(tmp_path / "store")
    others.make(NAMED)
    return others


@pytest.fixture(name="server")
def fixture_server(others: Server, proxy: Between) -> Server:
    """The process between whose requests things happen."""
    server = Server(others.root, proxy.url)
    server.refresh()
    return server
