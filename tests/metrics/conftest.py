"""What tests of metrics share."""

import pytest

from tests.support.figures import Counting
from wsgi_store.config import Config


@pytest.fixture(name="counting")
def fixture_counting(config: Config) -> Counting:
    """A service that counts."""
    return Counting(config)
