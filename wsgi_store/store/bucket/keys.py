"""How objects are named below the prefix of a store, and read out of a listing."""

import re
from typing import TYPE_CHECKING

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import Blob

if TYPE_CHECKING:
    from obstore import ObjectMeta

QUARANTINE = ".quarantine"


def key_of(digest: Digest) -> str:
    """The key of a blob, as files are named on disk."""
    return f"{digest.hex[:2]}/{digest.hex}"


def quarantine_key_of(digest: Digest) -> str:
    """The key of what is in quarantine under a digest."""
    return f"{QUARANTINE}/{digest.hex}"


def blob_keys(algorithm: Algorithm) -> re.Pattern[str]:
    """What matches the keys of blobs and nothing else; its group `hash` is their hash."""
    return re.compile(f"(?P<shard>[0-9a-f]{{2}})/(?P<hash>(?P=shard)[0-9a-f]{{{2 * algorithm.size - 2}}})")


def quarantine_keys(algorithm: Algorithm) -> re.Pattern[str]:
    """The same for what is in quarantine."""
    return re.compile(f"{re.escape(QUARANTINE)}/(?P<hash>[0-9a-f]{{{2 * algorithm.size}}})")


def described(digest: Digest, meta: "ObjectMeta") -> Blob:
    """An object as a blob."""
    # A listing tells fractions of a second, the object itself does not.
    return Blob(digest, meta["size"], int(meta["last_modified"].timestamp()))
