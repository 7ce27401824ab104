"""Digests: written, read and computed."""

import base64
import hashlib
import re
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BadRequest, DigestMismatch
from wsgi_store.hashing import Hasher, checked
from wsgi_store.web.digest_fields import parse_field

ALGORITHMS = st.sampled_from(Algorithm)
REGISTERED = [algorithm for algorithm in Algorithm if algorithm.field_key]
EMPTY = {
    Algorithm.MD5: "d41d8cd98f00b204e9800998ecf8427e",
    Algorithm.SHA1: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    Algorithm.SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    Algorithm.SHA512: "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
    "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    Algorithm.BLAKE2B: "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419"
    "d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce",
}


@st.composite
def digests(draw: st.DrawFn, algorithms: st.SearchStrategy[Algorithm] = ALGORITHMS) -> Digest:
    """Any digest."""
    algorithm = draw(algorithms)
    return Digest(algorithm, draw(st.binary(min_size=algorithm.size, max_size=algorithm.size)))


def b64(raw: bytes) -> str:
    """The base64 form."""
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize("algorithm", Algorithm, ids=lambda one: one.value)
def test_the_digest_of_nothing(algorithm: Algorithm) -> None:
    """Each algorithm is the one its name says, by the published digest of no bytes."""
    digest = Hasher(algorithm).finish()
    assert digest.hex == EMPTY[algorithm]
    assert algorithm.size == len(digest.raw)
    assert str(digest) == f"{algorithm.value}:{EMPTY[algorithm]}"


def test_which_algorithms_resist_collisions() -> None:
    """Of md5 and sha1 it is known that different bytes can have one digest."""
    assert {one for one in Algorithm if not one.collision_resistant} == {Algorithm.MD5, Algorithm.SHA1}


@given(digests(), st.randoms())
def test_hex_is_read_in_either_case(digest: Digest, random: Random) -> None:
    """What is written as hex reads as the same digest, whatever the case of each digit."""
    mixed = "".join(random.choice([c.upper(), c]) for c in digest.hex)
    for text in (digest.hex, digest.hex.upper(), mixed):
        assert digest.algorithm.parse(text) == digest
    assert digest.hex == digest.hex.lower()


@given(ALGORITHMS, st.text(max_size=130))
def test_any_text_is_a_hash_or_refused(algorithm: Algorithm, text: str) -> None:
    """Only hex digits of the right number are read."""
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
    """What bytes.fromhex or int would let through besides hex digits is refused."""
    with pytest.raises(ValueError, match="is not a md5 digest in hex"):
        Algorithm.MD5.parse(text)


@given(digests(st.sampled_from(REGISTERED)))
def test_a_field_reads_as_it_was_written(digest: Digest) -> None:
    """What is sent in Repr-Digest is read back the same."""
    field = digest.field()
    assert field is not None
    assert parse_field(field) == [digest]


def test_the_example_of_the_rfc() -> None:
    """The first example of RFC 9530 appendix B, and its key, are read."""
    body = b'{"hello": "world"}\n'
    field = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    digest = Digest(Algorithm.SHA256, hashlib.sha256(body).digest())
    assert digest.field() == field
    assert parse_field(field) == [digest]


def test_an_algorithm_without_a_key_has_no_field() -> None:
    """blake2b is not registered for digest fields, so none is sent."""
    assert Hasher(Algorithm.BLAKE2B).finish().field() is None


@given(st.lists(digests(st.sampled_from(REGISTERED)), min_size=1, unique_by=lambda one: one.algorithm))
def test_several_digests(several: list[Digest]) -> None:
    """Members are separated by commas with or without white space, their order is kept."""
    for separator in (",", ", ", " ,\t"):
        assert parse_field(separator.join(str(one.field()) for one in several)) == several


@pytest.mark.parametrize("key", ["sha-384", "unixsum", "adler", "blake2b", "x", "*a", "a.b_c-d*1"])
def test_an_unknown_algorithm_is_left_out(key: str) -> None:
    """Digests by algorithms that are not known here are ignored, beside known ones too."""
    digest = Hasher(Algorithm.SHA256).finish()
    assert not parse_field(f"{key}=:AAAA:")
    assert parse_field(f"{key}=:AAAA:, {digest.field()}, {key}x=::") == [digest]


@pytest.mark.parametrize("parameters", [";a", ";a=1", "; a=1;b", ';q="x y"', ";a=:AAAA:"])
def test_parameters_are_ignored(parameters: str) -> None:
    """Parameters of a member (RFC 8941 section 3.1.2) change nothing."""
    digest = Hasher(Algorithm.MD5).finish()
    assert parse_field(f"{digest.field()}{parameters}") == [digest]


def test_the_last_of_two_values_counts() -> None:
    """Of a key given twice the last value counts (RFC 8941 section 3.2)."""
    first, second = Hasher(Algorithm.MD5).finish(), Digest(Algorithm.MD5, bytes(16))
    assert parse_field(f"{first.field()}, {second.field()}") == [second]


@pytest.mark.parametrize("algorithm", REGISTERED, ids=lambda one: one.value)
def test_missing_padding(algorithm: Algorithm) -> None:
    """Base64 without its padding is read (RFC 8941 section 4.2.7)."""
    digest = Hasher(algorithm).finish()
    assert parse_field(f"{algorithm.field_key}=:{b64(digest.raw).rstrip('=')}:") == [digest]


@pytest.mark.parametrize(
    "field",
    [
        "md5",
        "md5=",
        "md5=:",
        "md5=::",
        "md5=1",
        "md5=?1",
        f"md5={EMPTY[Algorithm.MD5]}",
        f'md5="{b64(bytes(16))}"',
        f"md5:{b64(bytes(16))}:",
        f"md5=:{b64(bytes(16))}",
        f"md5 =:{b64(bytes(16))}:",
        f"md5= :{b64(bytes(16))}:",
        f"MD5=:{b64(bytes(16))}:",
        f"5md=:{b64(bytes(16))}:",
        f"md5=:{b64(bytes(15))}:",
        f"md5=:{b64(bytes(17))}:",
        f"md5=:{b64(bytes(20))}:",
        f"sha-256=:{b64(bytes(16))}:",
        "md5=:A:",
        "md5=:AAAAA:",
        "md5=:====:",
        "md5=:AA==AA==:",
        f"md5=:{'-' * 22}==:",
        f"md5=:{b64(bytes(16))[:10]} {b64(bytes(16))[10:]}:",
        f"md5=:{b64(bytes(16))}:x",
        f"md5=:{b64(bytes(16))}:,",
        f",md5=:{b64(bytes(16))}:",
        f"md5=:{b64(bytes(16))}:,,sha-384=:AAAA:",
        "unknown",
        "unknown=1",
        "\u00e9=:AAAA:",
        f"\u00a0md5=:{b64(bytes(16))}:",
    ],
)
def test_a_malformed_field(field: str) -> None:
    """A malformed field is refused, rather than an upload taken unchecked."""
    with pytest.raises(BadRequest, match="^malformed digest field"):
        parse_field(field)


@given(st.text(alphabet='md5sha-26=:;, "AQ/+*\t\0', max_size=80))
def test_any_field_is_read_or_refused(field: str) -> None:
    """Whatever a field holds, it gives digests of the right length or is a bad request."""
    try:
        several = parse_field(field)
    except BadRequest:
        return
    for digest in several:
        assert len(digest.raw) == digest.algorithm.size


@given(st.lists(st.binary(max_size=40)), ALGORITHMS, st.sets(ALGORITHMS))
def test_hashing_in_pieces(pieces: list[bytes], algorithm: Algorithm, others: set[Algorithm]) -> None:
    """Bytes hashed in pieces have the digests of the whole, in all algorithms at once."""
    whole = b"".join(pieces)
    expected = [Digest(one, hashlib.new(one.value, whole).digest()) for one in others]
    hasher = Hasher(algorithm, expected)
    for piece in pieces:
        hasher.update(piece)
    assert hasher.finish() == Digest(algorithm, hashlib.new(algorithm.value, whole).digest())


@given(digests())
def test_digests_that_exclude_each_other(one: Digest) -> None:
    """Two digests of one algorithm that differ are refused before any byte."""
    other = Digest(one.algorithm, one.raw[:-1] + bytes([one.raw[-1] ^ 1]))
    with pytest.raises(DigestMismatch) as caught:
        Hasher(Algorithm.MD5, [one, one, other])
    assert caught.value.evidence == {"expected": str(one), "actual": str(other)}


@given(digests(), digests())
def test_a_digest_that_differs(wrong: Digest, other: Digest) -> None:
    """One wrong digest is enough to refuse, and the first wrong one is told."""
    assume(len({Algorithm.SHA512, wrong.algorithm, other.algorithm}) == 3)
    right = Hasher(Algorithm.SHA512).finish()
    with pytest.raises(DigestMismatch) as caught:
        Hasher(Algorithm.MD5, iter([right, wrong, other])).finish()
    actual = Hasher(wrong.algorithm).finish()
    assert caught.value.evidence == {"expected": str(wrong), "actual": str(actual)}


def test_checked_passes_chunks_on() -> None:
    """Chunks pass unchanged while they are checked, and without digests they just pass."""
    chunks = [b"some", b"", b" bytes"]
    right = Digest(Algorithm.SHA1, hashlib.sha1(b"some bytes").digest())
    assert list(checked(chunks, [right])) == chunks
    assert list(checked(chunks, [])) == chunks


def test_checked_refuses_at_the_end() -> None:
    """Wrong chunks pass as they come, the refusal comes after the last one."""
    passed = []
    with pytest.raises(DigestMismatch):
        for chunk in checked([b"some", b"bytes"], [Hasher(Algorithm.MD5).finish()]):
            passed.append(chunk)
    assert passed == [b"some", b"bytes"]
