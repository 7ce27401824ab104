"""How a blob is named to a client: by its hash, or by a URL that a server or `Signer` made."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from wsgi_store.digest import Algorithm
from wsgi_store.errors import MalformedHash

SIZES = sorted({2 * algorithm.size for algorithm in Algorithm})
# By whichever algorithm.
HASH = re.compile("|".join(f"[0-9a-f]{{{size}}}" for size in SIZES))
# The server, its path ending where the first hash begins; the hash; a file name; a link.
_URL = re.compile(r"(https?://[^?#]*?)/([0-9a-fA-F]{32,128})(?:/([^/?#]*))?(\?[^#]*)?(?:#.*)?")


class Name(NamedTuple):
    """What somebody named: a hash in lower case, of a server if that was named, too."""

    text: str
    hash: str
    server: str | None = None
    file_name: str | None = None
    rest: str = ""
    """What stands behind the hash in the URL, from its / or ? on."""


def read(text: str) -> Name:
    """Read a hash or a URL; raises MalformedHash, before anybody is asked."""
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


def checked(hash_: str, algorithm: Algorithm | None = None) -> str:
    """A hash in lower case; raises MalformedHash where it cannot be one, by an algorithm if it is known."""
    sizes = SIZES if algorithm is None else [2 * algorithm.size]
    if len(hash_) in sizes and HASH.fullmatch(hash_.lower()):
        return hash_.lower()
    named = " or ".join(filter(None, [", ".join(map(str, sizes[:-1])), str(sizes[-1])]))
    of_it = f" of {algorithm.value}" if algorithm else ""
    raise MalformedHash(f"malformed hash {hash_!r}: expected the {named} hexadecimal digits of a hash{of_it}")
