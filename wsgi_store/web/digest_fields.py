"""Digests in header fields (RFC 9530)."""

import base64
import binascii
import re
from collections.abc import Iterable
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
_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*)={0,2}:(?:[ ]*;.*)?")


def format_field(digests: Iterable[Digest]) -> str:
    """Write the value of a Repr-Digest field; empty if RFC 9530 has no key for any of the algorithms."""
    return ", ".join(
        f"{KEYS[digest.algorithm]}=:{base64.b64encode(digest.raw).decode()}:"
        for digest in digests
        if digest.algorithm in KEYS
    )


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
