"""Fixtures shared by the tests of stores on a local disk."""

import pytest

from tests.support.kinds import KINDS, LocalKind


@pytest.fixture(name="kind", params=KINDS, ids=str)
def fixture_kind(request: pytest.FixtureRequest) -> LocalKind:
    """Each kind of store in turn."""
    kind: LocalKind = request.param
    return kind
