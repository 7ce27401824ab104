"""Writing, parsing and computing digests."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.digests import ALGORITHMS, EMPTY, digests
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.hashing import Hasher


@pytest.mark.parametrize("algorithm", Algorithm, ids=lambda one: one.value)
def test_the_digest_of_nothing(algorithm: Algorithm) -> None:
    """Each algorithm gives the published digest of empty input."""
    digest = Hasher(algorithm).finish()
    assert digest.hex == EMPTY[algorithm]
    assert algorithm.size == len(digest.raw)
    assert str(digest) == f"{algorithm.value}:{EMPTY[algorithm]}"


def test_which_algorithms_resist_collisions() -> None:
    """All algorithms except md5 and sha1 are marked as collision resistant."""
    assert {one for one in Algorithm if not one.collision_resistant} == {Algorithm.MD5, Algorithm.SHA1}


@given(digests(), st.randoms())
def test_hex_is_read_in_either_case(digest: Digest, random: Random) -> None:
    """A hash is parsed in either case."""
    mixed = "".join(random.choice([c.upper(), c]) for c in digest.hex)
    for text in (digest.hex, digest.hex.upper(), mixed):
        assert digest.algorithm.parse(text) == digest
    assert digest.hex == digest.hex.lower()


@given(ALGORITHMS, st.text(max_size=130))
def test_any_text_is_a_hash_or_refused(algorithm: Algorithm, text: str) -> None:
    """Only text with the right number of hex digits is parsed."""
    if re.fullmatch(r"[0-9a-fA-F]{%d}" % (2 * algorithm.size), text):
        assert algorithm.parse(text).hex == text.lower()
    else:
        with pytest.raises(ValueError, match=f"is not a {algorithm.value} digest in hex"):
            algorithm.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 31,
        "0" * 33,
        "0" * 40,
        "g" + "0" * 31,
        " " + "0" * 31,
        "0" * 31 + "\n",
        "0x" + "0" * 30,
        "+" + "0" * 31,
        "_".join(["0" * 15, "0" * 16]),
        "00 " * 10 + "00",
        "٠" * 32,
        "０" * 32,
        "\0" * 32,
    ],
    ids=ascii,
)
def test_malformed_hex(text: str) -> None:
    """Text that bytes.fromhex or int would accept, but that is not pure hex, is rejected."""
    with pytest.raises(ValueError, match="is not a md5 digest in hex"):
        Algorithm.MD5.parse(text)
