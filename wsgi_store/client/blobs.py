"""What a server tells about a blob."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wsgi_store.client.kept import Kept
from wsgi_store.client.names import HASH
from wsgi_store.client.transport import Transport
from wsgi_store.digest import Algorithm, Digest

# RFC 9530 section 7.2.
KEYS = {"md5": Algorithm.MD5, "sha": Algorithm.SHA1, "sha-256": Algorithm.SHA256, "sha-512": Algorithm.SHA512}
SIZES = {algorithm.value: 2 * algorithm.size for algorithm in Algorithm}
_MEMBER = re.compile(r"([a-z0-9-]+)=:([A-Za-z0-9+/]+={0,2}):")


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob on a server."""

    hash: str
    """The name by which it was asked for or listed; after an upload the primary one."""
    size: int
    """In bytes."""
    url: str
    names: Mapping[str, str] = field(hash=False)
    """Its hashes by their algorithms, such as `sha256`, as far as the server told them."""


@dataclass(frozen=True, slots=True)
class Uploaded(RemoteBlob):
    """An uploaded blob."""

    created: bool
    """Whether the upload added it; false also if a first attempt did, whose answer was lost."""
    healed: bool = False
    """Whether the upload replaced a damaged copy."""
    ambiguous: tuple[str, ...] = ()
    """Algorithms by which another file has the same hash; that hash leads to the other file."""
    continued_at: int = 0
    """How many bytes an earlier upload of the same file, which broke off, had left on the server."""


def blob_in(told: Any, transport: Transport, kept: Kept) -> RemoteBlob:
    """Read what an answer tells about a blob; raises UnexpectedAnswer."""
    match told:
        case {"hash": str() as hash_, "size": int() as size} if HASH.fullmatch(hash_) and size >= 0:
            algorithm = told.get("algorithm")
            names: Any = told["names"] if "names" in told else {algorithm or _algorithm(hash_, kept): hash_}
            if _are_names(names) and hash_ in ([names.get(algorithm)] if algorithm else names.values()):
                kept.compare(names, algorithm)
                return RemoteBlob(hash_, size, f"{transport.base}/{hash_}", names)
    raise transport.strange()


def _algorithm(hash_: str, kept: Kept) -> str | None:
    """The algorithm of a hash that version 0.1.0 lists without its names."""
    try:
        return kept.find(hash_).algorithm.value
    except ValueError:
        return None


def _are_names(names: Any) -> bool:
    return isinstance(names, dict) and all(
        isinstance(algorithm, str)
        and isinstance(hash_, str)
        and HASH.fullmatch(hash_)
        and SIZES.get(algorithm, len(hash_)) == len(hash_)
        for algorithm, hash_ in names.items()
    )


def names_in(repr_digest: str, asked: Digest) -> dict[str, str]:
    """Return the names in a Repr-Digest field (RFC 9530), and the one by which the blob was asked for."""
    names = {}
    for key, text in _MEMBER.findall(repr_digest):
        try:
            raw = base64.b64decode(text)
        except binascii.Error:
            continue
        if key in KEYS and len(raw) == KEYS[key].size:
            names[KEYS[key].value] = raw.hex()
    return {**names, asked.algorithm.value: asked.hex}
