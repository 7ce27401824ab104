"""What tests of stores in a bucket share."""

from collections.abc import Iterator

import pytest

from tests.support import ceph
from tests.support.engines import Between, between


@pytest.fixture(name="proxy")
def fixture_proxy() -> Iterator[Between]:
    """A proxy before the object store, which counts requests and may change answers."""
    with between(ceph.cluster().port) as proxy:
        yield proxy
