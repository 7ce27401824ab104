"""Digests in header fields (RFC 9530)."""

import base64
import binascii
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BadRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# RFC 9530 section 7.2. BLAKE2b and BLAKE3 have no registered key.
KEYS = {
    Algorithm.MD5: "md5",
    Algorithm.SHA1: "sha",
    Algorithm.SHA256: "sha-256",
    Algorithm.SHA512: "sha-512",
}
_ALGORITHMS = {key: algorithm for algorithm, key in KEYS.items()}
# The names of RFC 3230 and of IANA's registry for its fields, which are not case-sensitive.
OLD_KEYS = {
    Algorithm.MD5: "MD5",
    Algorithm.SHA1: "SHA",
    Algorithm.SHA256: "SHA-256",
    Algorithm.SHA512: "SHA-512",
}
# RFC 8941 section 3.2: a dictionary member whose value is a byte sequence, parameters ignored.
_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*)={0,2}:(?:[ ]*;.*)?")
# An item of Want-Repr-Digest, `sha-256=5` (RFC 9530 section 4), or Want-Digest, `sha-256;q=0.5` (RFC 3230).
_WANTED = re.compile(r"([a-z0-9-]+)(?:(?:[ \t]*;[ \t]*q)?=([0-9]{1,2}(?:\.[0-9]{0,3})?))?")


def format_field(digests: Iterable[Digest]) -> str:
    """Write the value of a Repr-Digest field; empty if RFC 9530 has no key for any of the algorithms."""
    return ", ".join(
        f"{KEYS[digest.algorithm]}=:{base64.b64encode(digest.raw).decode()}:"
        for digest in digests
        if digest.algorithm in KEYS
    )


# Clients send few different values.
@lru_cache(64)
def _preferences(field: str) -> dict[str, float]:
    """Return how much each key in a list of preferences is wanted; malformed items are left out."""
    matches = (_WANTED.fullmatch(item.strip(" \t")) for item in field.lower().split(","))
    return {match[1]: float(match[2] or 1) for match in matches if match}


def wanted_most(digests: Iterable[Digest], field: str) -> str:
    """Write a Digest field for a Want-Digest field (RFC 3230); empty if none of these is wanted."""
    preferences = _preferences(field)
    known = [(OLD_KEYS[one.algorithm], one) for one in digests if one.algorithm in OLD_KEYS]
    wanted = [(preferences.get(key.lower(), 0), key, one) for key, one in known]
    q, key, digest = max(wanted, key=lambda found: found[0], default=(0, "", None))
    return f"{key}={base64.b64encode(digest.raw).decode()}" if digest is not None and q else ""


def wanted(digests: Iterable[Digest], field: str) -> list[Digest]:
    """Return the digests that a Want-Repr-Digest field asks for (RFC 9530 section 4).

    If it asks for none of these, all are returned but those that it does not want.
    """
    preferences = _preferences(field)
    found = [(preferences.get(KEYS.get(one.algorithm, ""), -1), one) for one in digests]
    return [one for q, one in found if q > 0] or [one for q, one in found if q]


def digests_of(environ: "WSGIEnvironment", name: str) -> tuple[Digest, ...]:
    """Return the digests in a field of a request, which need not be there; raises BadRequest."""
    value = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
    return tuple(parse_field(value)) if value else ()


def parse_field(value: str) -> list[Digest]:
    """Read a Repr-Digest or Content-Digest field (RFC 9530).

    Algorithms unknown here are left out, as the RFC allows. Where a key is given twice the
    last one counts, and padding may be missing (RFC 8941 sections 3.2 and 4.2.7).
    Raises BadRequest when the field is malformed or a digest has the wrong length.
    """
    digests = {}
    for member in value.split(","):
        match = _MEMBER.fullmatch(member.strip(" \t"))
        if match is None:
            raise BadRequest("malformed digest field, expected algorithm=:base64:")
        algorithm = _ALGORITHMS.get(match[1])
        if algorithm is None:
            continue
        try:
            raw = base64.b64decode(match[2] + "=" * (-len(match[2]) % 4))
        except binascii.Error:
            raw = b""
        if len(raw) != algorithm.size:
            raise BadRequest(f"malformed digest field: not a {algorithm.value} digest")
        digests[algorithm] = Digest(algorithm, raw)
    return list(digests.values())
