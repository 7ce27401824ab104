"""Further names of blobs: small objects that hold the name they lead to.

A name may lead to a blob that is not there: uploads make their names before their blob, and a deletion
leaves them. Whoever wants to remove such a name or to give it to another blob writes into it first that it
is in doubt, and looks for the blob after that. An upload reads its names again when its blob is there, and
takes no name in doubt for its own. So one of the two always sees the other.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError

from wsgi_store.digest import Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import name_key_of, read_digest
from wsgi_store.store.bucket.lock import locked, remove

DOUBT = "in doubt"
# Rounds, each of which another process can spoil.
ROUNDS = 100

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutResult


@dataclass(frozen=True, slots=True)
class Lead:
    """Where a further name leads."""

    target: Digest | None
    """None if another program wrote something else into the object."""
    doubted: bool
    version: "ObjectMeta | PutResult"
    """Of the object, for replacing it."""


def follow(bucket: Bucket, name: Digest) -> Lead | None:
    """Read where a name leads; None if there is no such name. Raises StoreUnavailable."""
    with asking("cannot read a name"):
        try:
            there = obstore.get(bucket.client, name_key_of(name))
            text, _, rest = bytes(there.bytes()).decode(errors="replace").strip().partition(" ")
        except FileNotFoundError:
            return None
    try:
        target = read_digest(text)
    except ValueError:
        target = None
    return Lead(target, rest == DOUBT, there.meta)


def create(bucket: Bucket, name: Digest, target: Digest) -> bool:
    """Make a name that leads to `target`; False if the name exists. Raises StoreUnavailable."""
    with asking("cannot write a name"):
        try:
            obstore.put(bucket.client, name_key_of(name), _text(target), mode="create")
        except AlreadyExistsError:
            return False
    return True


def keep(bucket: Bucket, name: Digest, target: Digest, others: Callable[[Digest], bool]) -> bool:
    """Make sure that a name leads to `target`, and nobody is about to change that.

    False if it is another blob's: if it leads to one of which `others` is true. Raises StoreUnavailable.
    """
    there = follow(bucket, name)
    if there is not None and there.target == target and not there.doubted:
        return True
    if there is None and create(bucket, name, target):
        return True
    with _locked(bucket, name):
        return _take(bucket, name, target, others)


def _take(bucket: Bucket, name: Digest, target: Digest, others: Callable[[Digest], bool]) -> bool:
    for _ in range(ROUNDS):
        there = follow(bucket, name)
        if there is None:
            if create(bucket, name, target):
                return True
            continue
        other = there.target
        if other == target and not there.doubted:
            return True
        version: ObjectMeta | PutResult | None = there.version
        if other is not None and other != target:
            version = _doubt(bucket, name, there)
            if version is not None and others(other):
                _write(bucket, name, _text(other), version)
                return False
        if version is not None and _write(bucket, name, _text(target), version):
            return True
    raise StoreUnavailable("a name kept being changed", hash=name.hex)


def forget(bucket: Bucket, name: Digest, target: Digest | None, still: Callable[[], bool]) -> bool:
    """Remove a name if it leads to `target`, and if `still` says so when the name is in doubt.

    Returns whether it was removed. Raises StoreUnavailable.
    """
    with _locked(bucket, name) as until:
        there = follow(bucket, name)
        if there is None or there.target != target:
            return False
        version = _doubt(bucket, name, there)
        if version is None:
            return False
        # A name that another program wrote leads to no blob, whatever happens.
        if target is None or still():
            remove(bucket, name_key_of(name), until)
            # If another has taken over the lock meanwhile, it may have given the name to a blob again.
            if target is not None and time.monotonic() >= until and not still():
                create(bucket, name, target)
            return True
        _write(bucket, name, _text(target), version)
    return False


def _doubt(bucket: Bucket, name: Digest, there: Lead) -> "ObjectMeta | PutResult | None":
    """Write that a name is in doubt; returns what to replace then, None if the name has changed."""
    if there.doubted or there.target is None:
        return there.version
    return _write(bucket, name, f"{there.target} {DOUBT}\n".encode(), there.version)


def _write(
    bucket: Bucket, name: Digest, text: bytes, version: "ObjectMeta | PutResult"
) -> "PutResult | None":
    with asking("cannot write a name"):
        return bucket.replace(name_key_of(name), text, version)


def _text(target: Digest) -> bytes:
    return f"{target}\n".encode()


def _locked(bucket: Bucket, name: Digest) -> AbstractContextManager[float]:
    # Not the lock of an object under the key of this hash, which whoever makes names may hold.
    return locked(bucket, f"{name.algorithm.value}-{name.hex}")
