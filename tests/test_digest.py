"""Writing, parsing and computing digests."""

import re
import sys
import time
from random import Random
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.digests import ALGORITHMS, EMPTY, digests
from wsgi_store.digest import Algorithm, Digest, parse_any, require_distinct
from wsgi_store.errors import ConfigError
from wsgi_store.hashing import Hasher


@pytest.mark.parametrize("algorithm", Algorithm, ids=lambda one: one.value)
def test_the_digest_of_nothing(algorithm: Algorithm) -> None:
    """Each algorithm gives the published digest of empty input."""
    digest = Hasher(algorithm).finish()
    assert digest.hex == EMPTY[algorithm]
    assert algorithm.size == len(digest.raw)
    assert str(digest) == f"{algorithm.value}:{EMPTY[algorithm]}"


# https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json
BLAKE3 = {
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


@pytest.mark.parametrize("length", BLAKE3)
def test_published_digests_of_blake3(length: int) -> None:
    """The package blake3 computes the digests that the algorithm's authors published."""
    value = Algorithm.BLAKE3.new()
    value.update(bytes(number % 251 for number in range(length)))
    assert value.digest().hex() == BLAKE3[length]


@pytest.mark.parametrize("algorithm", Algorithm, ids=lambda one: one.value)
def test_other_threads_run_meanwhile(algorithm: Algorithm) -> None:
    """Hashing a large block releases the interpreter (GIL)."""
    block = memoryview(bytes(64 << 20))

    def turns() -> int:
        """How often this thread runs while another one hashes."""
        thread, count = Thread(target=algorithm.new().update, args=(block,)), 0
        thread.start()
        while thread.is_alive():
            time.sleep(0)
            count += 1
        return count

    before = sys.getswitchinterval()
    sys.setswitchinterval(60)  # so that no thread has to hand the interpreter over
    try:
        # On a busy machine this thread may not get a processor meanwhile.
        assert any(turns() > 10 for _ in range(20))
    finally:
        sys.setswitchinterval(before)


def test_blake3_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package blake3, hashes are parsed, and computing one says what to install."""
    monkeypatch.setitem(sys.modules, "blake3", None)
    assert Algorithm.BLAKE3.parse(EMPTY[Algorithm.BLAKE3]).hex == EMPTY[Algorithm.BLAKE3]
    with pytest.raises(ConfigError, match=r"^blake3 needs the package blake3: install the extra blake3 "):
        Algorithm.BLAKE3.new()


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


@given(digests(), st.lists(ALGORITHMS, unique=True))
def test_a_hash_of_any_of_several_algorithms(digest: Digest, algorithms: list[Algorithm]) -> None:
    """The length of a hash tells its algorithm."""
    others = [one for one in algorithms if one.size != digest.algorithm.size]
    for kept in ([digest.algorithm, *others], [*others, digest.algorithm]):
        assert parse_any(kept, digest.hex.upper()) == digest
        for text in (digest.hex[1:] + "g", digest.hex + "0" * 200, "", "g" * 40):
            with pytest.raises(ValueError, match="digest in hex$"):
                parse_any(kept, text)


def test_a_hash_of_no_algorithm() -> None:
    """The refusal of a hash names the algorithms that would fit."""
    kept = [Algorithm.SHA256, Algorithm.MD5, Algorithm.SHA1]
    for count, named in ((1, "sha256"), (2, "sha256 or md5"), (3, "sha256, md5 or sha1")):
        with pytest.raises(ValueError, match=f"^'ab' is not a {named} digest in hex$"):
            parse_any(kept[:count], "ab")


ALIKE = [
    ([Algorithm.SHA256, Algorithm.MD5, Algorithm.BLAKE3], "sha256 and blake3 have hashes of the same length"),
    ([Algorithm.BLAKE2B, Algorithm.SHA512], "blake2b and sha512 have hashes of the same length"),
    ([Algorithm.MD5, Algorithm.SHA1, Algorithm.MD5], "md5 is given twice"),
]


@pytest.mark.parametrize("algorithms, reason", ALIKE)
def test_algorithms_of_one_length(algorithms: list[Algorithm], reason: str) -> None:
    """Two algorithms whose hashes have one length are refused."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        require_distinct(algorithms)


def test_algorithms_of_different_lengths() -> None:
    """Algorithms with hashes of different lengths go together."""
    require_distinct([])
    require_distinct([Algorithm.MD5, Algorithm.SHA1, Algorithm.BLAKE3, Algorithm.SHA512])
