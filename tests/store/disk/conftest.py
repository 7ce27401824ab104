"""What tests of stores on a local disk share."""

import pytest

from tests.support.kinds import KINDS, LocalKind


@pytest.fixture(name="kind", params=KINDS, ids=str)
def fixture_kind(request: pytest.FixtureRequest) -> LocalKind:
    """One kind of store after another."""
    kind: LocalKind = request.param
    return kind
