"""Fixtures shared by the tests of stores in a bucket."""

from collections.abc import Iterator

import pytest

from tests.support import ceph
from tests.support.engines import Between, between


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
