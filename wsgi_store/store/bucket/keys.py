"""The keys of objects below the prefix of a store, and blobs from a listing."""

import re
from typing import TYPE_CHECKING

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import Blob

if TYPE_CHECKING:
    from obstore import ObjectMeta

QUARANTINE = ".quarantine"


def key_of(digest: Digest) -> str:
    """Return the key of a blob, which is its path in a store on a disk."""
    return f"{digest.hex[:2]}/{digest.hex}"


def quarantine_key_of(digest: Digest) -> str:
    """Return the key of a blob in quarantine."""
    return f"{QUARANTINE}/{digest.hex}"


def blob_keys(algorithm: Algorithm) -> re.Pattern[str]:
    """Return a pattern that matches only the keys of blobs; its group `hash` is the hash."""
    return re.compile(f"(?P<shard>[0-9a-f]{{2}})/(?P<hash>(?P=shard)[0-9a-f]{{{2 * algorithm.size - 2}}})")


def quarantine_keys(algorithm: Algorithm) -> re.Pattern[str]:
    """Return the same pattern for blobs in quarantine."""
    return re.compile(f"{re.escape(QUARANTINE)}/(?P<hash>[0-9a-f]{{{2 * algorithm.size}}})")


def described(digest: Digest, meta: "ObjectMeta") -> Blob:
    """Describe an object as a blob."""
    # Whole seconds: a listing has fractions, the response to HEAD has none.
    return Blob(digest, meta["size"], int(meta["last_modified"].timestamp()))
