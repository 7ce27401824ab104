"""Fixtures shared by the tests of stores in a bucket."""

from collections.abc import Iterator

import pytest

from tests.support import ceph
from tests.support.engines import Between, between


@pytest.fixture(name="proxy")
def fixture_proxy() -> Iterator[Between]:
    """A proxy in front of the object store that counts requests and can change answers."""
    with between(ceph.cluster().port) as proxy:
        yield proxy
