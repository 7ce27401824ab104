"""Names of blobs: a hash, or a URL as servers and `Signer` make them."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from wsgi_store.digest import Algorithm
from wsgi_store.errors import MalformedHash

SIZES = sorted({2 * algorithm.size for algorithm in Algorithm})
# The hash of any algorithm.
HASH = re.compile("|".join(f"[0-9a-f]{{{size}}}" for size in SIZES))
# Server with its prefix, hash, file name, query; the first hash in the path is the one.
_URL = re.compile(r"(https?://[^?#]*?)/([0-9a-fA-F]{32,128})(?:/([^/?#]*))?(\?[^#]*)?(?:#.*)?")


class Name(NamedTuple):
    """The parts of a blob's name; the hash is in lower case."""

    text: str
    hash: str
    server: str | None = None
    file_name: str | None = None
    rest: str = ""
    """What follows the hash in the URL, including its / or ?."""


def parse_name(text: str) -> Name:
    """Parse a hash or a URL; raises MalformedHash."""
    if "://" not in text:
        return Name(text, checked(text))
    match = _URL.fullmatch(text)
    if match is None:
        raise MalformedHash(
            f"malformed hash {text.partition('?')[0]!r}: expected the URL of a blob, http://host/prefix/HASH"
        )
    server, hash_, file_name, query = match.groups()
    rest = (f"/{file_name}" if file_name is not None else "") + (query or "")
    return Name(text, checked(hash_), server, unquote(file_name) if file_name else None, rest)


def checked(hash_: str) -> str:
    """Return a hash in lower case; raises MalformedHash unless its length is that of any algorithm."""
    if len(hash_) in SIZES and HASH.fullmatch(hash_.lower()):
        return hash_.lower()
    named = " or ".join([", ".join(map(str, SIZES[:-1])), str(SIZES[-1])])
    raise MalformedHash(f"malformed hash {hash_!r}: expected the {named} hexadecimal digits of a hash")
