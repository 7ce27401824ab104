"""The record that verify keeps of its runs."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.upkeep import NUMBER, digests, last
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Store
from wsgi_store.upkeep.ledger import NOTE, Ledger
from wsgi_store.upkeep.ranges import MAX_PARTS
from wsgi_store.upkeep.verify import verify

HASHES = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{",
        b"[1]",
        b'[["%s", 1]]' % (b"f" * 32),
        b'{"parts": [["ff", 1]], "unreadable": [], "blobs": 0, "bytes": 0, "corrupt": 0}',
        b'{"parts": [["%s", 1e99]], "unreadable": [], "blobs": 0, "bytes": 0, "corrupt": 0}' % (b"f" * 32),
        b'{"parts": [["%s", 1]], "unreadable": ["x"], "blobs": 0, "bytes": 0, "corrupt": 0}' % (b"f" * 32),
        b'{"parts": [["%s", 1]], "unreadable": [], "blobs": 0, "bytes": 0, "corrupt": 1e999}' % (b"f" * 32),
        b'{"parts": {}, "unreadable": [], "blobs": 0, "bytes": 0, "corrupt": 0}',
        b'{"parts": [["%s", 1]], "unreadable": [], "blobs": -1, "bytes": 0, "corrupt": 0}' % (b"f" * 32),
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_a_note_that_makes_no_sense(local: Store, note: bytes) -> None:
    """An invalid note is ignored."""
    local.update_note(NOTE, lambda _: note)
    assert last(verify(local)).checked_blobs == NUMBER
    assert all(part.time for part in Ledger.load(local).parts())


def test_a_clock_that_was_ahead(local: Store) -> None:
    """A part with a future time counts as unverified; the rest of the note stays valid."""
    bad = digests(local)[5]
    ends = [["7f" * 16, 1000.0], ["bf" * 16, time.time() + 1000], ["ff" * 16, float("nan")]]
    note = {"parts": ends, "unreadable": [bad.hex], "blobs": 3, "bytes": 2, "corrupt": 1}
    local.update_note(NOTE, lambda _: json.dumps(note).encode())
    known = Ledger.load(local)
    assert [part.time for part in known.parts()] == [1000.0, 0, 0]
    assert known.unreadable == {bad}
    assert (known.blobs, known.bytes, known.corrupt) == (3, 2, 1)


@given(marks=st.lists(st.tuples(HASHES, HASHES), max_size=20), asked=st.lists(HASHES, max_size=20))
def test_marks(marks: list[tuple[str, str]], asked: list[str]) -> None:
    """The ledger knows for each digest when a mark last covered it."""
    known = Ledger(Algorithm.MD5)
    for when, (one, two) in enumerate(marks, 1):
        if one != two:
            known.mark(Algorithm.MD5, min(one, two), max(one, two), float(when))
    for hash_ in asked + [hash_ for mark in marks for hash_ in mark]:
        expected = max(
            (when for when, mark in enumerate(marks, 1) if min(mark) < hash_ <= max(mark)), default=0
        )
        (part,) = [part for part in known.parts() if part.after < hash_ <= part.upto]
        assert part.time == expected


def test_the_note_stays_small(local: Store) -> None:
    """Excess parts are merged, and none counts as verified later than it was."""
    number_of_marks = 2 * MAX_PARTS

    def mark(known: Ledger) -> None:
        for number in range(number_of_marks):
            known.mark(Algorithm.MD5, f"{2 * number:032x}", f"{2 * number + 1:032x}", 1000.0 + number)

    Ledger.update(local, mark)
    known = Ledger.load(local)
    assert len(known.parts()) <= MAX_PARTS
    for part in known.parts():
        for number in range(number_of_marks):
            if part.after <= f"{2 * number:032x}" < part.upto:
                assert part.time <= 1000.0 + number
