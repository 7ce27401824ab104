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
# RFC 8941 section 3.2: a dictionary member whose value is a byte sequence, parameters ignored.
# An item of Want-Digest or of Want-Repr-Digest.
_PREFERENCE = re.compile(r"(?P<key>[A-Za-z0-9-]+)(?:\s*;\s*q=|=)?(?P<q>[0-9.]{1,5})?")
_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*)={0,2}:(?:[ ]*;.*)?")


def format_field(digests: Iterable[Digest]) -> str:
    """Write the value of a Repr-Digest field; empty if RFC 9530 has no key for any of the algorithms."""
    return ", ".join(
        f"{KEYS[digest.algorithm]}=:{base64.b64encode(digest.raw).decode()}:"
        for digest in digests
        if digest.algorithm in KEYS
    )


# RFC 3230 and IANA's registry of its algorithms, whose names are not case-sensitive.
_OLD_KEYS = {
    Algorithm.MD5: "MD5",
    Algorithm.SHA1: "SHA",
    Algorithm.SHA256: "SHA-256",
    Algorithm.SHA512: "SHA-512",
}


# Clients send few different values.
@lru_cache(64)
def _preferences(wanted: str) -> dict[str, float]:
    """Read the keys in a list of preferences, and how much each is wanted: `sha-256;q=0.5`, or `sha-256=5`."""
    found = {}
    for item in wanted.split(","):
        match = _PREFERENCE.fullmatch(item.strip(" \t"))
        if match is not None:
            found[match["key"].lower()] = float(match["q"] or 1)
    return found


def old_field(digests: Iterable[Digest], wanted: str) -> str:
    """Write the value of a Digest field (RFC 3230) with the digest that is wanted most; empty if none is."""
    preferences = _preferences(wanted)
    keys = [
        (preferences.get(_OLD_KEYS[one.algorithm].lower(), 0), one)
        for one in digests
        if one.algorithm in _OLD_KEYS
    ]
    q, digest = max(keys, key=lambda pair: pair[0], default=(0, None))
    if digest is None or not q:
        return ""
    return f"{_OLD_KEYS[digest.algorithm]}={base64.b64encode(digest.raw).decode()}"


def chosen(digests: Iterable[Digest], wanted: str) -> list[Digest]:
    """Return the digests that a Want-Repr-Digest field asks for (RFC 9530 section 4); all if it has none."""
    preferences = _preferences(wanted)
    digests = list(digests)
    named = [one for one in digests if preferences.get(KEYS.get(one.algorithm, ""), 0)]
    return named or digests


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
