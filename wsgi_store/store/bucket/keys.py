"""The keys of objects below the prefix of a store, and the blobs and names that they stand for."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import Blob

if TYPE_CHECKING:
    from obstore import ObjectMeta

QUARANTINE = ".quarantine"
NAMES = ".names"
# The keys of blobs begin with a digit or a letter, and those of everything else with a dot, which is smaller.
BEFORE_BLOBS = "0"


def key_of(digest: Digest) -> str:
    """Return the key of a blob, which is its path in a store on a disk."""
    return f"{digest.hex[:2]}/{digest.hex}"


def quarantine_key_of(digest: Digest) -> str:
    """Return the key of a blob in quarantine."""
    return f"{QUARANTINE}/{digest.hex}"


def name_key_of(name: Digest) -> str:
    """Return the key of the object that holds where a further name leads."""
    return f"{NAMES}/{name.algorithm.value}/{name.hex}"


def blob_keys(algorithms: Iterable[Algorithm]) -> re.Pattern[str]:
    """Return a pattern that matches only the keys of blobs; its group `hash` is the hash."""
    rests = "|".join(f"[0-9a-f]{{{2 * algorithm.size - 2}}}" for algorithm in algorithms)
    return re.compile(f"(?P<shard>[0-9a-f]{{2}})/(?P<hash>(?P=shard)(?:{rests}))")


def quarantine_keys(algorithms: Iterable[Algorithm]) -> re.Pattern[str]:
    """Return the same pattern for blobs in quarantine."""
    hashes = "|".join(f"[0-9a-f]{{{2 * algorithm.size}}}" for algorithm in algorithms)
    return re.compile(f"{re.escape(QUARANTINE)}/(?P<hash>{hashes})")


def name_of(key: str) -> Digest | None:
    """Return the further name that a key stands for; None if it stands for none."""
    with suppress(ValueError):
        place, algorithm, hash_ = key.split("/")
        name = Algorithm(algorithm).parse(hash_)
        if place == NAMES and name.hex == hash_:
            return name
    return None


def described(digest: Digest, meta: "ObjectMeta", at: Digest | None = None) -> Blob:
    """Describe an object as a blob that was asked for by `digest` and lies under the key of `at`."""
    # Whole seconds: a listing has fractions, the response to HEAD has none.
    modified = int(meta["last_modified"].timestamp())
    return Blob(digest, meta["size"], modified, None if at == digest else at)


def read_digest(text: str) -> Digest:
    """Read the text form of a digest, `sha256:abcdef…`; raises ValueError."""
    algorithm, _, hash_ = text.partition(":")
    return Algorithm(algorithm).parse(hash_)
