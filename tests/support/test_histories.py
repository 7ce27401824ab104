"""Tests of the check of clients' histories."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.histories import Operation, Outcome, linearisable

CREATED, HELD, REMOVED, MISSING = Outcome.CREATED, Outcome.HELD, Outcome.REMOVED, Outcome.MISSING
UPLOAD, REMOVAL = Outcome.UPLOAD_UNANSWERED, Outcome.REMOVAL_UNANSWERED


@pytest.mark.parametrize(
    "history",
    [
        [],
        [(0, 1, CREATED), (2, 3, HELD), (4, 5, REMOVED), (6, 7, MISSING), (8, 9, CREATED)],
        # At the same time, in either order.
        [(0, 9, CREATED), (1, 2, HELD), (3, 4, REMOVED), (5, 6, MISSING)],
        [(0, 5, HELD), (0, 5, CREATED), (1, 6, REMOVED), (7, 8, MISSING)],
        # Without an answer, done or not.
        [(0, 1, UPLOAD), (2, 3, HELD)],
        [(0, 1, UPLOAD), (2, 3, MISSING)],
        [(0, 1, CREATED), (2, 3, REMOVAL), (4, 5, HELD)],
        [(0, 1, CREATED), (2, 3, REMOVAL), (4, 5, MISSING)],
    ],
)
def test_possible_histories(history: list[tuple[int, int, Outcome]]) -> None:
    """A history that is possible in some order is accepted."""
    assert linearisable(Operation(*operation) for operation in history)


@pytest.mark.parametrize(
    "history",
    [
        [(0, 1, HELD)],
        [(0, 1, REMOVED)],
        [(0, 1, CREATED), (2, 3, MISSING)],
        [(0, 1, CREATED), (2, 3, CREATED)],
        [(0, 3, CREATED), (1, 2, CREATED)],
        [(0, 1, CREATED), (2, 3, REMOVED), (4, 5, HELD)],
        [(0, 1, CREATED), (2, 6, REMOVED), (3, 7, REMOVED)],
        # An unanswered operation takes effect at most once, before its connection broke.
        [(0, 1, UPLOAD), (2, 3, MISSING), (4, 5, HELD)],
        [(0, 1, CREATED), (2, 3, REMOVAL), (4, 5, HELD), (6, 7, MISSING)],
    ],
)
def test_impossible_histories(history: list[tuple[int, int, Outcome]]) -> None:
    """A history in which a blob is lost, returns or is created twice is rejected."""
    assert not linearisable(Operation(*operation) for operation in history)


@given(st.data())
def test_what_happened_is_possible(data: st.DataObject) -> None:
    """Operations done one by one are accepted, even if they seemed longer to the clients."""
    present = False
    history = []
    for moment in range(data.draw(st.integers(0, 30))):
        outcome = data.draw(
            st.sampled_from([one for one in Outcome if any(before is present for before, _ in one.value)])
        )
        present = data.draw(
            st.sampled_from(sorted(after for before, after in outcome.value if before is present))
        )
        begin, end = (data.draw(st.floats(0, 5)) for _ in range(2))
        history.append(Operation(moment - begin, moment + end, outcome))
    assert linearisable(history)
