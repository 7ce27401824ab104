"""Hashing bytes while they pass, and comparing them with announced digests."""

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.digests import ALGORITHMS, digests
from tests.support.kinds import digest_of
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import DigestMismatch
from wsgi_store.hashing import Hasher, checked


@given(st.lists(st.binary(max_size=40)), ALGORITHMS, st.sets(ALGORITHMS))
def test_hashing_in_pieces(pieces: list[bytes], algorithm: Algorithm, others: set[Algorithm]) -> None:
    """Hashing in pieces gives the digests of the whole, in all algorithms at once."""
    whole = b"".join(pieces)
    expected = [digest_of(one, whole) for one in others]
    hasher = Hasher(algorithm, expected)
    for piece in pieces:
        hasher.update(piece)
    assert hasher.finish() == digest_of(algorithm, whole)


@given(digests())
def test_digests_that_exclude_each_other(one: Digest) -> None:
    """Two different digests of the same algorithm are rejected before any byte."""
    other = Digest(one.algorithm, one.raw[:-1] + bytes([one.raw[-1] ^ 1]))
    with pytest.raises(DigestMismatch) as caught:
        Hasher(Algorithm.MD5, [one, one, other])
    assert caught.value.evidence == {"expected": str(one), "actual": str(other)}


@given(digests(), digests())
def test_a_digest_that_differs(wrong: Digest, other: Digest) -> None:
    """One wrong digest causes an error, which names the first wrong one."""
    assume(len({Algorithm.SHA512, wrong.algorithm, other.algorithm}) == 3)
    right = Hasher(Algorithm.SHA512).finish()
    with pytest.raises(DigestMismatch) as caught:
        Hasher(Algorithm.MD5, iter([right, wrong, other])).finish()
    actual = Hasher(wrong.algorithm).finish()
    assert caught.value.evidence == {"expected": str(wrong), "actual": str(actual)}


def test_checked_passes_chunks_on() -> None:
    """Chunks pass unchanged, with or without digests to check."""
    chunks = [b"some", b"", b" bytes"]
    right = Digest(Algorithm.SHA1, hashlib.sha1(b"some bytes").digest())
    assert list(checked(chunks, [right])) == chunks
    assert list(checked(chunks, [])) == chunks


def test_checked_refuses_at_the_end() -> None:
    """A mismatch is raised after the last chunk has passed."""
    passed = []
    with pytest.raises(DigestMismatch):
        for chunk in checked([b"some", b"bytes"], [Hasher(Algorithm.MD5).finish()]):
            passed.append(chunk)
    assert passed == [b"some", b"bytes"]
