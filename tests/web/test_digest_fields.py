"""Digest fields (RFC 9530), written and parsed."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.digests import EMPTY, digests
from tests.support.kinds import digest_of
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BadRequest
from wsgi_store.hashing import Hasher
from wsgi_store.web.digest_fields import KEYS, format_field, parse_field

REGISTERED = list(KEYS)


def b64(raw: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(raw).decode()


@given(digests(st.sampled_from(REGISTERED)))
def test_a_field_reads_as_it_was_written(digest: Digest) -> None:
    """A formatted field parses back to the same digest."""
    field = format_field([digest])
    assert parse_field(field) == [digest]


def test_the_example_of_the_rfc() -> None:
    """The first example of RFC 9530 appendix B is written and parsed correctly."""
    body = b'{"hello": "world"}\n'
    field = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    digest = Digest(Algorithm.SHA256, hashlib.sha256(body).digest())
    assert format_field([digest]) == field
    assert parse_field(field) == [digest]


@pytest.mark.parametrize("algorithm", [Algorithm.BLAKE2B, Algorithm.BLAKE3])
def test_an_algorithm_without_a_key_has_no_field(algorithm: Algorithm) -> None:
    """blake2b and blake3 have no registered keys and so no fields."""
    assert format_field([digest_of(algorithm, b"")]) == ""


@given(st.lists(digests(st.sampled_from(REGISTERED)), min_size=1, unique_by=lambda one: one.algorithm))
def test_several_digests(several: list[Digest]) -> None:
    """Members are separated by commas with optional white space, and keep their order."""
    assert parse_field(format_field(several)) == several
    for separator in (",", ", ", " ,\t"):
        assert parse_field(separator.join(format_field([one]) for one in several)) == several


@pytest.mark.parametrize("key", ["sha-384", "unixsum", "adler", "blake2b", "blake3", "x", "*a", "a.b_c-d*1"])
def test_an_unknown_algorithm_is_left_out(key: str) -> None:
    """Digests of unknown algorithms are ignored, alone or beside known ones."""
    digest = Hasher(Algorithm.SHA256).finish()
    assert not parse_field(f"{key}=:AAAA:")
    assert parse_field(f"{key}=:AAAA:, {format_field([digest])}, {key}x=::") == [digest]


@pytest.mark.parametrize("parameters", [";a", ";a=1", "; a=1;b", ';q="x y"', ";a=:AAAA:"])
def test_parameters_are_ignored(parameters: str) -> None:
    """Parameters of a member (RFC 8941 section 3.1.2) are ignored."""
    digest = Hasher(Algorithm.MD5).finish()
    assert parse_field(f"{format_field([digest])}{parameters}") == [digest]


def test_the_last_of_two_values_counts() -> None:
    """The last value of a repeated key counts (RFC 8941 section 3.2)."""
    first, second = Hasher(Algorithm.MD5).finish(), Digest(Algorithm.MD5, bytes(16))
    assert parse_field(f"{format_field([first])}, {format_field([second])}") == [second]


@pytest.mark.parametrize("algorithm", REGISTERED, ids=lambda one: one.value)
def test_missing_padding(algorithm: Algorithm) -> None:
    """Base64 without padding is accepted (RFC 8941 section 4.2.7)."""
    digest = Hasher(algorithm).finish()
    assert parse_field(f"{KEYS[algorithm]}=:{b64(digest.raw).rstrip('=')}:") == [digest]


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
    """A malformed field is refused: ignoring it would leave the upload unchecked."""
    with pytest.raises(BadRequest, match="^malformed digest field"):
        parse_field(field)


@given(st.text(alphabet='md5sha-26=:;, "AQ/+*\t\0', max_size=80))
def test_any_field_is_read_or_refused(field: str) -> None:
    """Any field either yields digests of the right length or raises BadRequest."""
    try:
        several = parse_field(field)
    except BadRequest:
        return
    for digest in several:
        assert len(digest.raw) == digest.algorithm.size
