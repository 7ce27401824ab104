"""Fixtures for the tests of metrics."""

import pytest

from tests.support.figures import Counting
from wsgi_store.config import Config


@pytest.fixture(name="counting")
def fixture_counting(config: Config) -> Counting:
    """A service with metrics."""
    return Counting(config)
